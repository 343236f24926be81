"""Parquet and Arrow files; class numbers become their names where the file records them, as Hugging Face does."""

from __future__ import annotations

import json
from typing import Any

from foreword.data.readers.in_memory import raw_of
from foreword.data.row import Raw
from foreword.errors import DataError
from foreword.messages import Message


def read_parquet(data: bytes, file: str) -> Raw:
    """The rows of a Parquet file.

    Raises:
        DataError: damaged, or two columns with one name.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged("Parquet", file, error) from error
    return raw_of_table(table, file)


def read_arrow(data: bytes, file: str) -> Raw:
    """The rows of an Arrow file or stream (``Dataset.save_to_disk``, Feather 2).

    Raises:
        DataError: as :func:`read_parquet`.
    """
    import pyarrow
    import pyarrow.ipc

    try:
        buffer = pyarrow.BufferReader(data)
        opened = pyarrow.ipc.open_file(buffer) if data.startswith(b"ARROW1") else pyarrow.ipc.open_stream(buffer)
        table = opened.read_all()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged("Arrow", file, error) from error
    return raw_of_table(table, file)


def raw_of_table(table: Any, file: str) -> Raw:
    """The rows of a ``pyarrow.Table``."""
    double = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if double:
        raise DataError("two columns have the same name", where=file, received=", ".join(double))
    names = class_names((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    return raw_of(table.to_pylist(), table.column_names, file, names)


def class_names(blob: bytes) -> dict[str, list[str]]:
    """Column -> names of its classes, out of the metadata that Hugging Face writes; {} where there are none."""
    try:
        features = json.loads(blob)["info"]["features"]
        return {
            name: [str(each) for each in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # Foreign or older metadata: the numbers themselves are still good labels.
        return {}


def _damaged(what: str, file: str, error: Exception) -> DataError:
    hint = "write the file again; it may be cut short"
    return DataError(Message("the {what} file cannot be read", what=what), where=file, received=str(error), hint=hint)
