"""Bytes to text: byte order marks, UTF-8, GBK by evidence, and a clear refusal for everything else."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from foreword.errors import DataError, SettingsError
from foreword.messages import Message

MAX_BYTES = 2 << 30
"""Largest file, also after unpacking: a small .gz must not fill the memory."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark starts with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    (b"PK\x03\x04", "a zip file or an Excel workbook", "unpack it, or save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save the sheet as CSV UTF-8"),
    (b"%PDF", "a PDF", "copy the rows to a CSV or JSONL file"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"BZh", "a bzip2 archive", "unpack it first, or use gzip"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first, or use gzip"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first, or use gzip"),
    (b"\x80\x04\x95", "a pickle, which can run code when it is loaded", "save the rows as JSONL or Parquet"),
)
# The commonest characters of written Chinese: real text is a third of these, misread Korean or Japanese almost none.
_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过好很没还服务酒店房间"
)


def load_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked when it is gzip.

    Raises:
        DataError: missing, a folder, unreadable, too large, or a damaged archive.
    """
    where = str(path)
    if path.is_dir():
        raise DataError("this is a folder, not a data file", where=where, hint="name one file inside it")
    if not path.exists():
        raise DataError("the data file does not exist", where=where, hint="check the path and the spelling")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                "the file is too large",
                where=where,
                expected=Message("at most {MAX_BYTES:,} bytes", MAX_BYTES=MAX_BYTES),
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the file cannot be read", where=where, received=error.strerror) from error
    return _unpacked(data, where) if data[:2] == b"\x1f\x8b" else data


def _unpacked(data: bytes, where: str) -> bytes:
    import io

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        hint = "the archive is damaged or was not copied to its end"
        raise DataError("the gzip file cannot be unpacked", where=where, received=str(error), hint=hint) from error
    if len(unpacked) > MAX_BYTES:
        raise DataError(
            "the file is too large when unpacked",
            where=where,
            expected=Message("at most {MAX_BYTES:,} bytes", MAX_BYTES=MAX_BYTES),
        )
    return unpacked


def decode(data: bytes, where: str, encoding: str | None = None) -> tuple[str, str]:
    """Text and the name of its encoding. A byte order mark is never part of the text.

    Raises:
        SettingsError: ``encoding`` is not the name of one.
        DataError: binary, or in an encoding that cannot be told with certainty.
    """
    for mark, kind, hint in _MAGIC:
        if data.startswith(mark):
            raise DataError(Message("this is {kind}, not a text file", kind=kind), where=where, hint=hint)
    if encoding is not None:
        return _decode_as(data, where, encoding)
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _decode_as(data, where, name)
    _refuse_binary(data, where)
    _refuse_other_text(data, where)
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        if looks_like_gbk(data):
            return _decode_as(data, where, "gb18030")
        raise _undecodable(data, error, where, "UTF-8") from error


def _decode_as(data: bytes, where: str, encoding: str) -> tuple[str, str]:
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        hint = "use a name such as utf-8, gb18030, big5, cp1252, utf-16"
        raise SettingsError("this encoding is not known", where="--encoding", received=encoding, hint=hint) from error
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(data, error, where, encoding) from error
    except (LookupError, ValueError) as error:
        raise SettingsError("this is not an encoding of text", where="--encoding", received=encoding) from error
    return text.removeprefix("\ufeff"), name


def _refuse_binary(data: bytes, where: str) -> None:
    zeros = data[:65536].count(0)
    if zeros * 5 > len(data[:65536]):
        hint = "if it is text in UTF-16 without a byte order mark, say --encoding utf-16-le (or utf-16-be)"
        raise DataError("this is a binary file, or text in UTF-16 without a mark", where=where, hint=hint)
    control = sum(data[:65536].count(byte) for byte in (*range(1, 8), *range(14, 27)))
    if (zeros + control) * 20 > max(len(data[:65536]), 20):
        hint = "give a CSV, TSV, JSON, JSONL, Parquet or text file"
        raise DataError("this is a binary file, not text", where=where, hint=hint)


def _refuse_other_text(data: bytes, where: str) -> None:
    """Refuse texts that stand where a data file should be, mostly after a download that went wrong."""
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        hint = "fetch the file itself with `git lfs pull`"
        raise DataError("this is a Git LFS pointer, not the data", where=where, hint=hint)
    if start.startswith((b"<!doctype html", b"<html")):
        hint = "download the file itself (its raw form), not the page that shows it"
        raise DataError("this is a web page, not a data file", where=where, hint=hint)


def _undecodable(data: bytes, error: UnicodeDecodeError, where: str, encoding: str) -> DataError:
    line = data.count(b"\n", 0, error.start) + 1
    return DataError(
        "the text is not in the encoding expected",
        where=f"{where}:{line}",
        expected=encoding,
        received=f"byte 0x{data[error.start]:02x} at offset {error.start}",
        hint="save the file as UTF-8, or name its encoding with --encoding (cp1252, big5, shift_jis, ...)",
    )


def looks_like_gbk(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 are Chinese in GBK or GB18030, by evidence rather than by luck.

    Latin-1 and Big5 often decode as GBK by accident. Real GBK has nearly all its two-byte characters in the GB2312
    area (both bytes from 0xA1), few kana (which would be EUC-JP), and common characters (which misread Korean lacks).
    """
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    sample = [char for char in text[:200_000] if ord(char) > 127]
    if not sample:
        return False
    pairs = [char.encode("gb18030") for char in sample]
    plain = sum(len(pair) == 2 and pair[0] >= 0xA1 and pair[1] >= 0xA1 for pair in pairs)
    kana = sum(0x3040 <= ord(char) <= 0x30FF for char in sample)
    han = [char for char in sample if 0x4E00 <= ord(char) <= 0x9FFF]
    common = sum(char in _COMMON for char in han)
    enough = common * 20 >= len(han) if len(han) >= 20 else True
    return plain >= 0.9 * len(sample) and kana < 0.05 * len(sample) and len(han) >= 0.5 * len(sample) and enough
