"""A safetensors header, read by hand: every number in it is checked before anything is allocated or trusted.

The layout (https://github.com/huggingface/safetensors, "Format"): an unsigned 64-bit little-endian length N, N bytes of
JSON, then the tensors' bytes without gaps. Nothing here imports torch, so that listing a folder is quick.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from foreword.errors import FileFormatError
from foreword.messages import Message

MAX_HEADER_BYTES = 32 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024**3
MAX_TENSORS = 16_384
MAX_DIMENSION = 2**24
ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}

Refuse = Callable[..., FileFormatError]


class Readable(Protocol):
    """An open file, or a mapping of one."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class TensorInfo:
    """One line of the table of tensors: where its bytes are, counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_values(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The checked header: the texts in ``__metadata__`` and the tensors in the order of the header."""

    metadata: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    data_start: int


def refuser(where: str) -> Refuse:
    """A maker of errors that all name the same file."""

    def refuse(problem: str, *, expected: object = None, received: object = None, hint: str = "") -> FileFormatError:
        hint = hint or "the file is damaged or was not written by foreword: get it again from where it came from"
        return FileFormatError(problem, where=where, expected=expected, received=received, hint=hint)

    return refuse


def strict_json(text: str | bytes) -> object:
    """Parse JSON that has one meaning only.

    Raises:
        ValueError: not JSON or not UTF-8; a key twice in one object; NaN, an infinity or a number that overflows to
            one; half of a surrogate pair; nested too deeply.
    """
    try:
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def read_header(file: Readable, size: int, where: str) -> Header:
    """Read and check the header of an open file (or mapping) of ``size`` bytes; the tensors' bytes are not read.

    Raises:
        FileFormatError: truncated, too long, not safetensors, ambiguous JSON, tensors that overlap, leave gaps, lie
            outside the file, or whose shape, type and byte count do not agree.
    """
    refuse = refuser(where)
    if size > MAX_FILE_BYTES:
        raise refuse(
            "the file is too long",
            expected=Message("at most {limit} bytes", limit=MAX_FILE_BYTES),
            received=f"{size} bytes",
        )
    start, first = file.read(8), file.read(1)
    _refuse_known_formats(start, first, refuse)
    if len(start) < 8:
        raise refuse("the file is truncated", expected="at least 8 bytes", received=f"{len(start)} bytes")
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER_BYTES:
        raise refuse(
            "the header is too long",
            expected=Message("at most {limit} bytes", limit=MAX_HEADER_BYTES),
            received=f"{length} bytes",
        )
    if length > size - 8:
        raise refuse(
            "the file is truncated",
            expected=Message("{n} bytes of header", n=8 + length),
            received=f"{size} bytes in all",
        )
    raw = (first + file.read(length - 1)) if length else b""
    if len(raw) != length:
        raise refuse(
            "the file is truncated",
            expected=Message("a header of {length} bytes", length=length),
            received=f"{len(raw)} bytes",
        )
    if not raw.startswith(b"{"):
        raise refuse("this is not a safetensors file", expected="a header that starts with {", received=repr(raw[:8]))
    try:
        entries = strict_json(raw.decode("utf-8"))
    except ValueError as error:
        raise refuse(f"the header is not valid JSON: {error}") from error
    if not isinstance(entries, dict):
        raise refuse("the header is not a JSON object", received=type(entries).__name__)
    metadata = _metadata(entries.pop("__metadata__", {}), refuse)
    tensors = tuple(_tensor(name, entry, refuse) for name, entry in _limited(entries, refuse).items())
    _check_layout(tensors, size - 8 - length, refuse)
    return Header(metadata, tensors, 8 + length)


def _refuse_known_formats(start: bytes, first: bytes, refuse: Refuse) -> None:
    """Name the usual mistakes; a pickle is never opened, whatever its name says.

    The starts of a zip archive and of a GGUF model are, as lengths, over the limit. The start of a pickle can be a
    length (640 is 80 02), so there the byte after it decides.
    """
    pickle = "a pickle can run code when it is opened: ask for the .foreword or .safetensors file instead"
    if first != b"{" and start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise refuse("this is a Python pickle", expected="a safetensors file", hint=pickle)
    if start[:4] == b"PK\x03\x04":
        raise refuse("this is a zip archive or a torch checkpoint", expected="a safetensors file", hint=pickle)
    if start[:4] == b"GGUF":
        raise refuse("this is a GGUF model", expected="a safetensors file", hint="give the model as --base instead")


def _metadata(value: object, refuse: Refuse) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise refuse("__metadata__ is not an object of texts")
    return value


def _limited(entries: dict[str, object], refuse: Refuse) -> dict[str, object]:
    if len(entries) > MAX_TENSORS:
        raise refuse(
            "the file holds too many tensors",
            expected=Message("at most {limit}", limit=MAX_TENSORS),
            received=len(entries),
        )
    return entries


def _tensor(name: str, entry: object, refuse: Refuse) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise refuse(f"the entry of the tensor {name!r} is malformed", expected="dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise refuse(f"the tensor {name!r} has a wrong type", expected=", ".join(ITEM_BYTES), received=repr(dtype)[:40])
    if not _whole_numbers(shape) or not all(1 <= n <= MAX_DIMENSION for n in shape) or len(shape) > 8:
        raise refuse(
            f"the tensor {name!r} has an impossible shape",
            expected=Message("numbers from 1 to {limit}", limit=MAX_DIMENSION),
            received=repr(shape)[:80],
        )
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise refuse(f"the tensor {name!r} has malformed offsets", received=repr(offsets)[:80])
    info = TensorInfo(name, dtype, tuple(shape), *offsets)
    if info.end - info.begin != info.num_values * ITEM_BYTES[dtype]:
        raise refuse(
            f"the tensor {name!r} does not have the bytes that its shape needs",
            expected=info.num_values * ITEM_BYTES[dtype],
            received=info.end - info.begin,
        )
    return info


def _whole_numbers(value: object) -> bool:
    # bool is an int for Python, but not for JSON.
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_layout(tensors: tuple[TensorInfo, ...], data_bytes: int, refuse: Refuse) -> None:
    """The tensors must tile the rest of the file: no overlap, no gap to hide something in, nothing outside."""
    position = 0
    for info in sorted(tensors, key=lambda t: t.begin):
        if info.begin != position:
            problem = "overlaps another" if info.begin < position else "leaves a gap before it"
            raise refuse(f"the tensor {info.name!r} {problem}", expected=f"offset {position}", received=info.begin)
        position = info.end
    if position != data_bytes:
        problem = "the file is truncated" if position > data_bytes else "the file has bytes that belong to no tensor"
        raise refuse(
            problem, expected=Message("{position} bytes of tensors", position=position), received=f"{data_bytes} bytes"
        )
