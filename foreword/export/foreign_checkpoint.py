"""Reading the parts of another tool's checkpoint without trusting them: a JSON object, a number in it, tensors.

Links are followed here, unlike for a .foreword: a download cache keeps its files behind them, and whatever is read is
checked all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from torch import Tensor

from foreword.artifact.header import MAX_FILE_BYTES, MAX_HEADER_BYTES, read_header, strict_json
from foreword.artifact.safe_files import contents, read_regular
from foreword.artifact.store import read_tensors
from foreword.errors import FileFormatError


def object_of(path: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises:
        FileFormatError: no regular file, over 32 MiB, or not one JSON object with one meaning.
    """
    hint = "get the checkpoint again from where it came from"
    try:
        fields = strict_json(read_regular(path, MAX_HEADER_BYTES, follow_links=True).decode("utf-8"))
    except ValueError as error:
        raise FileFormatError(f"this is not valid JSON: {error}", where=str(path), hint=hint) from error
    if not isinstance(fields, dict):
        raise FileFormatError("this is not a JSON object", where=str(path), received=type(fields).__name__, hint=hint)
    return fields


def whole_number(fields: Mapping[str, object], key: str, where: Path) -> int:
    """A number over 0 out of a JSON object; raises FileFormatError when it is missing or something else."""
    value = fields.get(key)
    if type(value) is not int or value < 1:
        raise FileFormatError(
            f"{key} is missing or wrong", where=str(where), expected="a whole number over 0", received=repr(value)[:40]
        )
    return value


def finite_number(fields: Mapping[str, object], key: str, where: Path) -> float:
    """A number over 0 out of a JSON object; raises FileFormatError when it is missing or something else."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise FileFormatError(
            f"{key} is missing or wrong", where=str(where), expected="a number over 0", received=repr(value)[:40]
        )
    return float(value)


def tensors_of(path: Path) -> tuple[dict[str, Tensor], str]:
    """Every tensor of a safetensors file by name, and the SHA-256 of the file in hex.

    Raises:
        FileFormatError: no regular file, damaged or hostile, or values that are not finite.
    """
    data = contents(path, MAX_FILE_BYTES, follow_links=True)
    header = read_header(BytesIO(data) if isinstance(data, bytes) else data, len(data), str(path))
    return read_tensors(data, header, str(path)), hashlib.sha256(data).hexdigest()
