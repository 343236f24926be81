"""Which reader reads a file: by its first bytes, by what its text looks like, or by the end of its name.

Another package adds a format with an entry point of the group ``foreword.readers`` that names a :class:`Reader`; such
a reader comes before the built-in ones of the same suffix.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import PurePath

from foreword.data.readers.charset import decode
from foreword.data.readers.conll import looks_like_conll, read_conll
from foreword.data.readers.delimited import looks_like_table, read_csv, read_tsv
from foreword.data.readers.excel import read_excel
from foreword.data.readers.json_lines import read_json, read_jsonl
from foreword.data.readers.parquet import read_arrow, read_parquet
from foreword.data.readers.plain_text import read_plain_text
from foreword.data.row import Raw
from foreword.data.task.columns import known_names
from foreword.errors import DataError
from foreword.messages import Message

GROUP = "foreword.readers"
_JSON = re.compile(r'[ \t\r\n]*(?:\[[ \t\r\n]*\{|\{\s*"(?:[^"\\]|\\.)*"\s*:)')


@dataclass(frozen=True)
class FileContent:
    """What a reader is given.

    Attributes:
        data: the file's bytes, unpacked where it is gzip.
        file: its name as the user gave it, for messages.
        encoding: as the user says; None: found out.
        named: columns that the user names.
        labelled: False when the rows need no target.
    """

    data: bytes
    file: str
    encoding: str | None = None
    named: tuple[str, ...] = ()
    labelled: bool = True

    @cached_property
    def decoded(self) -> tuple[str, str]:
        """The text and the name of its encoding.

        Raises:
            DataError: binary, empty, or in an encoding that cannot be told.
        """
        text, encoding = decode(self.data, self.file, self.encoding)
        if not text.strip():
            raise DataError("the file is empty", where=self.file, hint="give a file with at least a few rows")
        return text, encoding

    @property
    def text(self) -> str:
        """The text; raises as :attr:`decoded`."""
        return self.decoded[0]

    @property
    def names(self) -> frozenset[str]:
        """Lower-case names that make a first line a header."""
        return known_names() | {name.lower() for name in self.named}


@dataclass(frozen=True)
class Reader:
    """One format.

    Attributes:
        name: what it is called in messages.
        suffixes: ends of file names in lower case, with the dot.
        parse: content -> rows, or split name -> rows where one file holds several splits.
        binary: whether the bytes are no text.
        magic: first bytes that tell the format whatever the file is called.
    """

    name: str
    suffixes: tuple[str, ...]
    parse: Callable[[FileContent], Raw | Mapping[str, Raw]]
    binary: bool = False
    magic: tuple[bytes, ...] = ()


READERS = (
    Reader("parquet", (".parquet", ".pq"), lambda c: read_parquet(c.data, c.file), True, (b"PAR1",)),
    Reader(
        "arrow", (".arrow", ".feather"), lambda c: read_arrow(c.data, c.file), True, (b"ARROW1", b"\xff\xff\xff\xff")
    ),
    Reader("excel", (".xlsx", ".xlsm"), lambda c: read_excel(c.data, c.file), True),
    Reader("csv", (".csv",), lambda c: read_csv(c.text, c.file)),
    Reader("tsv", (".tsv", ".tab"), lambda c: read_tsv(c.text, c.file, c.names)),
    Reader("json", (".json",), lambda c: read_json(c.text, c.file)),
    Reader("jsonl", (".jsonl", ".ndjson"), lambda c: read_jsonl(c.text, c.file)),
    Reader("txt", (".txt", ".text"), lambda c: read_plain_text(c.text, c.file, c.labelled)),
    Reader("conll", (".conll", ".bio", ".iob", ".iob2"), lambda c: read_conll(c.text, c.file)),
)
_BY_NAME = {reader.name: reader for reader in READERS}


@cache
def _of_folder() -> tuple[Reader, ...]:
    """The ``READER`` of each file of this folder that has one."""
    folder = "foreword.data.readers"
    files = [import_module(f"{folder}.{file.name}") for file in pkgutil.iter_modules(import_module(folder).__path__)]
    return tuple(file.READER for file in files if isinstance(getattr(file, "READER", None), Reader))


def added_readers() -> tuple[Reader, ...]:
    """The readers that a file of this folder adds as its ``READER``, and those that other packages add, sorted by the
    names of their entry points.

    Raises:
        DataError: an entry point that is no reader.
    """
    readers = [*_of_folder()]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        reader = entry.load()
        if not isinstance(reader, Reader):
            raise DataError("an entry point is no reader", where=f"{GROUP}: {entry.name}", expected="a Reader")
        readers.append(reader)
    return tuple(readers)


def suffixes() -> tuple[str, ...]:
    """Every end of a file name that some reader reads."""
    return tuple(suffix for reader in (*added_readers(), *READERS) for suffix in reader.suffixes)


def suffix_of(file: str) -> str:
    """The end of a file's name in lower case, without ``.gz``."""
    return PurePath(file.lower().removesuffix(".gz")).suffix


def reader_of(content: FileContent) -> Reader:
    """The reader of a file.

    Raises:
        DataError: the name promises a binary format that the bytes are not, or the text cannot be decoded.
    """
    suffix = suffix_of(content.file)
    for reader in (*added_readers(), *READERS):
        if reader.magic and content.data.startswith(reader.magic):
            return reader
    named = next((reader for reader in (*added_readers(), *READERS) if suffix in reader.suffixes), None)
    if named is not None and named.magic:
        expected = " or ".join(repr(magic)[1:] for magic in named.magic)
        raise DataError(
            Message("this is not a {value} file", value=named.name.capitalize()),
            where=content.file,
            expected=Message("{expected} at its start", expected=expected),
        )
    if named is not None and (named.binary or named not in READERS):
        return named
    return _by_content(content, named)


def _by_content(content: FileContent, named: Reader | None) -> Reader:
    """A text's reader: what is unmistakable in the text comes before its name."""
    text = content.text
    kind = named.name if named else ""
    if kind in ("", "csv", "tsv", "txt") and _looks_like_json(text):
        return _BY_NAME["json"]
    if kind in ("", "tsv", "txt") and looks_like_conll(text):
        return _BY_NAME["conll"]
    if kind in ("", "txt"):
        delimiter = looks_like_table(text, content.names)
        if delimiter:
            return _BY_NAME["tsv" if delimiter == "\t" else "csv"]
    if kind:
        return _BY_NAME[kind]
    first = text.lstrip().split("\n", 1)[0]
    return _BY_NAME["tsv" if "\t" in first else "csv" if any(mark in first for mark in ",;|") else "txt"]


def _looks_like_json(text: str) -> bool:
    """Whether a text is JSON whatever its name says: it begins with an object, or with a list of objects."""
    return _JSON.match(text) is not None
