"""llama.cpp's sequence state as bytes, little-endian.

``magic, version, n, tokens[n]``, then the payload: ``streams``; for each stream ``cells``, for each cell ``position, 1,
sequence``; ``transposed, layers``; in version 4 two more numbers (0 with an f16 or f32 cache); for each layer its keys
``type, row_bytes, rows [cell][H * D]``; for each layer its values likewise, or where they are transposed ``type,
element_bytes, H * D`` and the data transposed. Version 3 is of llama-cpp-python 0.3.36, version 4 of llama.cpp b11434.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foreword.errors import FileFormatError

Array = np.ndarray[Any, Any]
MAGIC, VERSIONS = 0x67677371, (3, 4)
TYPES: dict[str, tuple[int, Any]] = {"f32": (0, np.float32), "f16": (1, np.float16)}


@dataclass(frozen=True)
class StateLayout:
    """How an engine was started, which its state files must agree with.

    Args:
        version: of the file.
        streams: parallel slots; 1 with a unified cache.
        cache_type: of the numbers.
        transposed: values the other way round: flash attention off.
    """

    version: int = 4
    streams: int = 1
    cache_type: Literal["f16", "f32"] = "f16"
    transposed: bool = False


def interleaved(keys: Array, rotary: int) -> Array:
    """Keys ``[..., D]`` of halves, as transformers rotates them, in neighbouring pairs, as llama.cpp's Llama does."""
    halves = keys[..., :rotary].reshape(*keys.shape[:-1], 2, rotary // 2)
    return np.concatenate([np.swapaxes(halves, -1, -2).reshape(*keys.shape[:-1], rotary), keys[..., rotary:]], -1)


def halves(keys: Array, rotary: int) -> Array:
    """The inverse of :func:`interleaved`."""
    pairs = keys[..., :rotary].reshape(*keys.shape[:-1], rotary // 2, 2)
    return np.concatenate([np.swapaxes(pairs, -1, -2).reshape(*keys.shape[:-1], rotary), keys[..., rotary:]], -1)


def encode_state(cache: Array, tokens: Sequence[int], layout: StateLayout) -> bytes:
    """A state file.

    Args:
        cache: ``[L, 2, P, H * D]``, dimensions in the engine's own order.
        tokens: the P placeholder ids.
    """
    layers, _, P, _ = cache.shape
    number, dtype = TYPES[layout.cache_type]
    out = [struct.pack("<III", MAGIC, layout.version, P), np.asarray(tokens, "<i4").tobytes()]
    out.append(struct.pack("<II", layout.streams, P))
    out += [struct.pack("<iIi", position, 1, 0) for position in range(P)]
    out.append(struct.pack("<II", layout.transposed, layers))
    if layout.version >= 4:
        out.append(struct.pack("<II", 0, 0))
    data = np.ascontiguousarray(cache, dtype)
    row = data.shape[3] * data.itemsize
    for keys in data[:, 0]:
        out += [struct.pack("<iQ", number, row), keys.tobytes()]
    for values in data[:, 1]:
        if layout.transposed:
            out += [struct.pack("<iII", number, data.itemsize, data.shape[3]), np.ascontiguousarray(values.T).tobytes()]
        else:
            out += [struct.pack("<iQ", number, row), values.tobytes()]
    # The other slots' streams are empty.
    return b"".join([*out, *[struct.pack("<I", 0)] * (layout.streams - 1)])


class _Reader:
    """Numbers and arrays off the front of a file that nobody vouches for."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.offset, self.where = content, 0, where

    def refuse(self, problem: str, expected: object = None, received: object = None) -> FileFormatError:
        return FileFormatError(problem, where=self.where, expected=expected, received=received)

    def numbers(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize("<" + form)
        if self.offset + size > len(self.content):
            raise self.refuse("the state file is cut off", f"{self.offset + size} bytes", len(self.content))
        values = struct.unpack_from("<" + form, self.content, self.offset)
        self.offset += size
        return values

    def array(self, dtype: Any, count: int) -> Array:
        size = count * np.dtype(dtype).itemsize
        if count < 0 or self.offset + size > len(self.content):
            raise self.refuse("the state file is cut off", f"{self.offset + size} bytes", len(self.content))
        values = np.frombuffer(self.content, dtype, count, self.offset)
        self.offset += size
        return values

    def kind(self, number: int) -> Any:
        for known, dtype in TYPES.values():
            if known == number:
                return dtype
        raise self.refuse("numbers of another type", "f16 or f32", number)


def decode_state(content: bytes, where: str = "state") -> tuple[Array, list[int]]:
    """The inverse of :func:`encode_state`: the cache ``[L, 2, P, H * D]`` in float32 and the tokens.

    Raises:
        FileFormatError: not such a file, cut off, or of a form that is not known here.
    """
    reader = _Reader(content, where)
    magic, version, count = reader.numbers("III")
    if magic != MAGIC:
        raise reader.refuse("this is no sequence state of llama.cpp", hex(MAGIC), hex(magic))
    if version not in VERSIONS:
        raise reader.refuse("a version that is not known here", "3 or 4", version)
    if not count:
        raise reader.refuse("there is nothing in the state", "at least one token", 0)
    tokens = reader.array("<i4", count).tolist()
    (streams,) = reader.numbers("I")
    cells = 0
    for _ in range(streams):
        (cells,) = reader.numbers("I")
        if cells:
            break
    if cells != count:
        raise reader.refuse("the cells are not those of the tokens", count, cells)
    positions = [reader.numbers("iIi")[:2] for _ in range(cells)]
    if positions != [(position, 1) for position in range(cells)]:
        raise reader.refuse("its cells are not positions 0 to P-1 of one sequence")
    transposed, layers = reader.numbers("II")
    if version >= 4 and reader.numbers("II") != (0, 0):
        raise reader.refuse("a rotated cache is not known here")
    keys = [_rows(reader, cells) for _ in range(layers)]
    values = [_columns(reader, cells) if transposed else _rows(reader, cells) for _ in range(layers)]
    if len({part.shape for part in (*keys, *values)}) > 1:
        raise reader.refuse("its layers have different sizes")
    cache = np.stack([np.stack(keys), np.stack(values)], 1).astype(np.float32)
    if not np.isfinite(cache).all():
        raise reader.refuse("some of its numbers are not finite")
    return cache, tokens


def _rows(reader: _Reader, cells: int) -> Array:
    number, row = reader.numbers("iQ")
    dtype = reader.kind(number)
    return reader.array(dtype, cells * row // np.dtype(dtype).itemsize).reshape(cells, -1)


def _columns(reader: _Reader, cells: int) -> Array:
    number, _, width = reader.numbers("iII")
    return reader.array(reader.kind(number), cells * width).reshape(width, cells).T
