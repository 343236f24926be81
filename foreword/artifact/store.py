"""Save, load and peek at one .foreword file: a safetensors file whose metadata holds the manifest as JSON.

What is read is not trusted. The header is checked by hand, then the manifest, then names, shapes and types, then the
bytes go to the safetensors library, and the digests must agree; a foreword comes out whole or not at all. The digests
find damage, not forgery: who can change the tensors can change the digest too.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from foreword.artifact.header import ITEM_BYTES, MAX_FILE_BYTES, Header, TensorInfo, read_header, refuser
from foreword.artifact.manifest import Manifest
from foreword.artifact.peek import Peek, check_header, needed_version, peek, sha256
from foreword.artifact.safe_files import contents
from foreword.core.inject.value import Foreword
from foreword.errors import FileFormatError
from foreword.messages import Message
from foreword.storage import write_atomically

__all__ = ["Peek", "decode", "encode", "load", "peek", "read_tensors", "save"]

_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_TYPES = {name: dtype for dtype, name in _DTYPES.items()}


def save(path: str | Path, foreword: Foreword, manifest: Manifest) -> Manifest:
    """Write a .foreword file atomically; the same foreword and manifest always give the same bytes.

    The guidance text is taken from the foreword, and the version is the lowest that knows its parts. The new file is
    loaded again before it gets its name, so that a file is never written that :func:`load` would refuse. Tensors are
    written one after another: weights are large.

    Args:
        path: where to write; an existing file is replaced, missing folders are made.
        foreword: tensors of float32, float16 or bfloat16, on any device.
        manifest: what the file says about itself.

    Returns:
        The manifest as it was written.

    Raises:
        FileFormatError: the foreword or the manifest cannot be stored, for example a tensor that holds NaN.
        ForewordError: the disk refused; what was there before is untouched.

    >>> from foreword import load, save
    >>> value, manifest = load("model.foreword")
    >>> save("copy.foreword", value, manifest).method
    'prefix'
    """
    where = os.fspath(path)
    written = _stored(foreword, manifest)
    header, tensors = _layout(foreword, written, where)
    write_atomically(path, _pieces(header, tensors), lambda part: decode(contents(part, MAX_FILE_BYTES), where))
    return written


def load(path: str | Path) -> tuple[Foreword, Manifest]:
    """Read a .foreword file; the tensors are on the CPU in the precision of the file.

    A long file is mapped, not copied: its pages come from the disk when they are used. Writing to such a tensor does
    not reach the file.

    Args:
        path: the file, or ``hf://owner/name`` for one on the Hugging Face Hub (:mod:`foreword.artifact.hub`).

    Raises:
        FileFormatError: the file is missing, truncated, damaged, hostile, or of an unknown version.
        BaseError: it cannot be fetched from the hub.

    >>> from foreword import load
    >>> value, manifest = load("model.foreword")
    >>> manifest.method, value.num_virtual_tokens
    ('prefix', 4)
    """
    if os.fspath(path).startswith("hf:"):
        from foreword.artifact.hub import local_path

        # The hub's cache holds links to its files.
        return decode(contents(Path(local_path(path)).resolve(), MAX_FILE_BYTES), os.fspath(path))
    return decode(contents(path, MAX_FILE_BYTES), os.fspath(path))


def encode(foreword: Foreword, manifest: Manifest, where: str = "foreword") -> bytes:
    """The bytes of a .foreword file.

    Raises:
        FileFormatError: a tensor has a type that the format does not hold; ``where`` is named in the error.
    """
    return b"".join(_pieces(*_layout(foreword, _stored(foreword, manifest), where)))


def _stored(foreword: Foreword, manifest: Manifest) -> Manifest:
    """The manifest as the file says it."""
    return manifest.model_copy(update={"text": foreword.text, "format_version": needed_version(foreword.tensors())})


def _layout(foreword: Foreword, manifest: Manifest, where: str) -> tuple[bytes, list[Tensor]]:
    """The file's beginning up to the first value, and the tensors in their order in the file."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in foreword.tensors().items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise FileFormatError(
                Message("the tensor {name!r} cannot be stored", name=name),
                where=where,
                expected="float32, float16 or bfloat16",
                received=tensor.dtype,
                hint="convert it first: foreword.to(dtype=torch.float32)",
            )
    try:
        text = manifest.to_json_text()
        digest = foreword.digest()
    except (ValueError, RecursionError) as error:
        raise FileFormatError(Message("the manifest cannot be written: {error}", error=error), where=where) from error
    metadata = {"foreword": text, "digest": digest, "manifest_digest": sha256(text)}
    # Four-byte types first, so that every tensor starts at a multiple of its item size.
    order = sorted(tensors, key=lambda name: -ITEM_BYTES[_DTYPES[tensors[name].dtype]])
    offsets, position = {}, 0
    for name in order:
        offsets[name] = [position, position + tensors[name].nbytes]
        position += tensors[name].nbytes
    entries = {
        name: {"dtype": _DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": offsets[name]}
        for name, t in tensors.items()
    }
    header = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, [tensors[name] for name in order]


def _pieces(header: bytes, tensors: list[Tensor]) -> Iterator[bytes | memoryview]:
    yield header
    for tensor in tensors:
        yield _little_endian(tensor)


def decode(data: bytes | mmap.mmap, where: str = "foreword") -> tuple[Foreword, Manifest]:
    """The inverse of :func:`encode`.

    Raises:
        FileFormatError: as :func:`load`; ``where`` is named in the error.
    """
    refuse = refuser(where)
    header = read_header(io.BytesIO(data) if isinstance(data, bytes) else data, len(data), where)
    manifest = check_header(header, where)
    tensors = read_tensors(data, header, where)
    try:
        foreword = Foreword.from_tensors(tensors, manifest.text)
    except ValueError as error:
        raise refuse(f"the tensors do not make a foreword: {error}") from error
    if foreword.digest() != header.metadata["digest"]:
        raise refuse("the tensors are not the ones that were saved", expected="the digest in the header")
    return foreword, manifest


def read_tensors(data: bytes | mmap.mmap, header: Header, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose header was checked, in the order of the header.

    Raises:
        FileFormatError: the safetensors library refuses the bytes, or a value is NaN or infinite.
    """
    refuse = refuser(where)
    try:
        if isinstance(data, bytes):
            loaded = safetensors.torch.load(data) if header.tensors else {}
        else:
            loaded = {info.name: _mapped(data, header.data_start, info) for info in header.tensors}
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise refuse(f"the tensors cannot be read: {error}") from error
    for name, tensor in loaded.items():
        if not bool(torch.isfinite(tensor).all()):
            raise refuse(f"the tensor {name!r} holds NaN or infinite values", expected="finite values")
    return {info.name: loaded[info.name] for info in header.tensors}


def _mapped(data: mmap.mmap, start: int, info: TensorInfo) -> Tensor:
    """A tensor whose values are the mapping's own bytes, or a copy where those are not aligned for it."""
    dtype, begin = _TYPES[info.dtype], start + info.begin
    if begin % ITEM_BYTES[info.dtype]:
        return torch.frombuffer(bytearray(data[begin : start + info.end]), dtype=dtype).reshape(info.shape)
    return torch.frombuffer(data, dtype=dtype, count=info.num_values, offset=begin).reshape(info.shape)


def _little_endian(tensor: Tensor) -> memoryview:
    """The values' bytes, as the format stores them on every machine."""
    array = tensor.flatten().view(torch.uint8).numpy()
    if sys.byteorder != "little":
        array = array.reshape(-1, tensor.element_size())[:, ::-1].copy().reshape(-1)
    return memoryview(array.data)
