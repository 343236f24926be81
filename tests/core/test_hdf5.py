"""The reader of HDF5 weights: what a small file holds, and refusal of every damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from foreword.core.base.hdf5 import arrays
from foreword.errors import FileFormatError

VALUES = np.arange(6, dtype="<f4").reshape(2, 3)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("<HHxxxx", kind, len(body)) + body


def header(*messages: bytes) -> bytes:
    body = b"".join(messages)
    return struct.pack("<BxHxxxxIxxxx", 1, len(messages), len(body)) + body


def small_file(name: bytes = b"w:0") -> bytes:
    """One group with one dataset of 2 x 3 floats, laid out as h5py does for Keras."""
    at = {"root": 96, "tree": 160, "snod": 320, "heap": 480, "names": 512, "data": 640, "values": 800}
    root = header(message(0x11, struct.pack("<QQ", at["tree"], at["heap"])))
    tree = b"TREE" + struct.pack("<BBH", 0, 0, 1) + b"\xff" * 16 + struct.pack("<QQQ", 0, at["snod"], 0)
    snod = b"SNOD" + struct.pack("<BxH", 1, 1) + struct.pack("<QQ", 8, at["data"]) + bytes(24)
    heap = b"HEAP" + struct.pack("<BxxxQQQ", 0, 64, 0, at["names"])
    data = header(
        message(0x01, struct.pack("<BBBxxxxx", 1, 2, 0) + struct.pack("<QQ", 2, 3)),
        message(0x03, struct.pack("<BBBBI", 0x11, 0x20, 0x1F, 0, 4) + bytes(16)),
        message(0x08, struct.pack("<BBQQxxxxxx", 3, 1, at["values"], VALUES.nbytes)),
    )
    out = bytearray(1000)
    start = b"\x89HDF\r\n\x1a\n" + bytes(5) + bytes([8, 8]) + bytes(1)
    out[: len(start)] = start
    out[64:72] = struct.pack("<Q", at["root"])
    out[at["names"] + 8 : at["names"] + 8 + len(name) + 1] = name + b"\0"
    for place, part in (("root", root), ("tree", tree), ("snod", snod), ("heap", heap), ("data", data)):
        out[at[place] : at[place] + len(part)] = part
    out[at["values"] : at["values"] + VALUES.nbytes] = VALUES.tobytes()
    return bytes(out)


def test_a_dataset_is_read() -> None:
    found = arrays(small_file())
    assert list(found) == ["w:0"]
    np.testing.assert_array_equal(found["w:0"], VALUES)


@pytest.mark.parametrize("length", [0, 8, 70, 120, 330, 500, 700, 810])
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(FileFormatError, match="HDF5"):
        arrays(small_file()[:length])


def test_damage_is_refused_or_harmless() -> None:
    """Any byte may be wrong: the answer is an array or a refusal, never another error and never an endless loop."""
    whole = small_file()
    for place in range(0, 820, 1):
        for value in (0x00, 0x01, 0x7F, 0xFF):
            damaged = bytearray(whole)
            damaged[place] = value
            try:
                arrays(bytes(damaged))
            except FileFormatError:
                continue


def test_a_group_that_holds_itself_is_refused() -> None:
    damaged = bytearray(small_file())
    damaged[320 + 8 + 8 : 320 + 8 + 16] = struct.pack("<Q", 96)
    with pytest.raises(FileFormatError, match=r"deep|parts"):
        arrays(bytes(damaged))
