"""Parquet files, pandas DataFrames, Hugging Face Datasets and lists of dictionaries. Lines are row numbers from 1."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foreword.data.row import Problem, Raw
from foreword.errors import DataError


def read_parquet(data: bytes, file: str) -> Raw:
    """The rows of a Parquet file; class numbers become their names where the file records them (Hugging Face does).

    Raises:
        DataError: damaged.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        hint = "write the file again; it may be cut short"
        raise DataError("the Parquet file cannot be read", where=file, received=str(error), hint=hint) from error
    names = _class_names_of_metadata((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    return _raw(table.to_pylist(), table.column_names, file, names)


def read_memory(source: object) -> tuple[Raw, str]:
    """Rows of an object in memory, and the name it gets.

    Raises:
        DataError: an object of another type, or a dictionary of splits.
    """
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        columns = [str(name) for name in source.columns]
        records = [dict(zip(columns, row, strict=True)) for row in source.itertuples(index=False, name=None)]
        return _raw(records, columns, "DataFrame", {}, pandas.NA), "DataFrame"
    if datasets is not None and isinstance(source, datasets.Dataset):
        names = {
            name: list(feature.names)
            for name, feature in source.features.items()
            if isinstance(feature, datasets.ClassLabel)
        }
        return _raw(source.to_list(), source.column_names, "Dataset", names), "Dataset"
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _raw(source, None, "list", {}), "list"
    hint = "give a path, a DataFrame, a Dataset or a list of dictionaries"
    if isinstance(source, Mapping):
        hint = 'this is a dictionary; of a DatasetDict name one split: data["train"]'
    raise DataError("this cannot be read as rows", received=type(source).__name__, hint=hint)


def _class_names_of_metadata(blob: bytes) -> dict[str, list[str]]:
    try:
        features = json.loads(blob)["info"]["features"]
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        # Foreign or older metadata: the numbers themselves are still good labels.
        return {}


def _raw(
    records: Iterable[object],
    columns: Iterable[str] | None,
    file: str,
    class_names: Mapping[str, list[str]],
    missing: object = None,
) -> Raw:
    raw = Raw((), [])
    seen: dict[str, None] = dict.fromkeys(columns or ())
    for number, record in enumerate(records, 1):
        if not isinstance(record, Mapping):
            message = f"expected a dictionary of fields, received {type(record).__name__}"
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
            continue
        fields = {str(name): _plain(value, missing) for name, value in record.items()}
        for name, names in class_names.items():
            index = fields.get(name)
            if isinstance(index, int):
                # -1 is how Hugging Face data sets write "no label".
                fields[name] = names[index] if 0 <= index < len(names) else None
        seen.update(dict.fromkeys(fields))
        raw.records.append((fields, number))
    raw.columns = tuple(seen)
    return raw


def _plain(value: Any, missing: object = None) -> object:
    """Plain Python for a value of numpy, pandas or pyarrow."""
    if value is None or value is missing or isinstance(value, str | bool | int | float):
        return None if value is missing else value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return _plain(value.tolist(), missing)
    if isinstance(value, Mapping):
        return {str(key): _plain(one, missing) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, missing) for one in value]
    return str(value)
