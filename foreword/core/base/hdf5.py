"""Plain arrays of numbers out of an HDF5 file, such as Keras's weights, without a library and without running anything.

Only what such files hold is read: version 0 superblock, old-style groups, version 1 object headers, and contiguous
little-endian floats. Everything else is refused. Every place that the file points to is checked before it is read.
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (the HDF5 File Format Specification, 3.0).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreword.errors import FileFormatError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DATASPACE, _DATATYPE, _LAYOUT, _CONTINUATION, _GROUP = 0x01, 0x03, 0x08, 0x10, 0x11
_FLOATS: dict[int, Any] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
_DEEPEST, _MOST = 32, 100_000


def arrays(content: bytes, where: str = "HDF5") -> dict[str, NDArray[np.float32]]:
    """Every dataset of numbers in the file, by its path (``rnn_1/kernel:0``), as float32.

    Raises:
        FileFormatError: it is no HDF5 file, it is damaged, or it holds something that is not read here.
    """
    reader = _Reader(content, where)
    found: dict[str, NDArray[np.float32]] = {}
    for name, header in reader.tree(reader.root(), 0):
        found[name] = reader.dataset(header)
    return found


class _Reader:
    """The file's bytes, with checked access."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.seen = content, where, 0

    def wrong(self, what: str) -> FileFormatError:
        return FileFormatError(f"an HDF5 file that cannot be read: {what}", where=self.where)

    def take(self, layout: str, place: int) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        if place < 0 or place + size > len(self.content):
            raise self.wrong("it points outside of itself")
        found: tuple[int, ...] = struct.unpack_from(layout, self.content, place)
        return found

    def expect(self, mark: bytes, place: int) -> None:
        if place < 0 or self.content[place : place + len(mark)] != mark:
            raise self.wrong(f"{mark!r} is missing")

    def count(self) -> None:
        """A file whose parts point in circles would never end."""
        self.seen += 1
        if self.seen > _MOST:
            raise self.wrong("too many parts")

    def root(self) -> int:
        """Where the root group's object header is."""
        self.expect(_SIGNATURE, 0)
        version, offset_size, length_size = self.take("<B4xBB", 8)
        if (version, offset_size, length_size) != (0, 8, 8):
            raise self.wrong("only version 0 with 8-byte offsets is known")
        return self.take("<Q", 64)[0]

    def messages(self, header: int) -> Iterator[tuple[int, int, int]]:
        """Kind, place and size of each message of a version 1 object header."""
        version, count, size = self.take("<BxHxxxxI", header)
        if version != 1:
            raise self.wrong("only version 1 object headers are known")
        blocks = [(header + 16, size)]
        while blocks and count > 0:
            place, left = blocks.pop(0)
            while left >= 8 and count > 0:
                self.count()
                kind, length = self.take("<HH", place)
                count -= 1
                if kind == _CONTINUATION:
                    blocks.append((self.take("<Q", place + 8)[0], self.take("<Q", place + 16)[0]))
                else:
                    yield kind, place + 8, length
                place, left = place + 8 + length, left - 8 - length

    def tree(self, header: int, depth: int, front: str = "") -> Iterator[tuple[str, int]]:
        """The path and object header of every dataset below a group."""
        if depth > _DEEPEST:
            raise self.wrong("groups too deep")
        table = next((place for kind, place, _ in self.messages(header) if kind == _GROUP), None)
        if table is None:
            yield front.rstrip("/"), header
            return
        nodes, heap = self.take("<QQ", table)
        self.expect(b"HEAP", heap)
        names = self.take("<Q", heap + 24)[0]
        for name, child in self.links(nodes, depth):
            yield from self.tree(child, depth + 1, f"{front}{self.text(names + name)}/")

    def links(self, node: int, depth: int) -> Iterator[tuple[int, int]]:
        """Offset of the name and object header of each link of a version 1 B-tree of a group."""
        self.count()
        if depth > 2 * _DEEPEST:
            raise self.wrong("a tree too deep")
        self.expect(b"TREE", node)
        level, entries = self.take("<xBH", node + 4)
        for i in range(entries):
            child = self.take("<Q", node + 32 + 16 * i)[0]
            if level:
                yield from self.links(child, depth + 1)
                continue
            self.expect(b"SNOD", child)
            for j in range(self.take("<H", child + 6)[0]):
                self.count()
                name, header = self.take("<QQ", child + 8 + 40 * j)
                yield name, header

    def text(self, place: int) -> str:
        end = self.content.find(b"\0", place)
        if place < 0 or end < 0:
            raise self.wrong("a name has no end")
        return self.content[place:end].decode("utf-8", "replace")

    def dataset(self, header: int) -> NDArray[np.float32]:
        shape: tuple[int, ...] | None = None
        kind: Any = None
        data: tuple[int, ...] | None = None
        for message, place, _ in self.messages(header):
            if message == _DATASPACE:
                version, rank = self.take("<BB", place)
                start = place + (8 if version == 1 else 4)
                shape = tuple(self.take("<Q", start + 8 * i)[0] for i in range(rank))
            elif message == _DATATYPE:
                first, order, size = self.take("<BBxxI", place)
                kind = _FLOATS.get(size) if first & 0x0F == 1 and not order & 1 else None
            elif message == _LAYOUT:
                version, form = self.take("<BB", place)
                if version == 3 and form == 1:
                    data = self.take("<QQ", place + 2)
        if shape is None or kind is None or data is None:
            raise self.wrong("a dataset that is not contiguous little-endian floats")
        start, size = data
        if size != math.prod(shape) * kind.itemsize or start + size > len(self.content):
            raise self.wrong("a dataset is cut off")
        flat: NDArray[np.float32] = np.frombuffer(self.content, kind, math.prod(shape), start).astype(np.float32)
        return flat.reshape(shape)
