"""pandas DataFrames, Hugging Face Datasets, lists and dictionaries in memory. Lines are row numbers from 1."""

from __future__ import annotations

import datetime
import decimal
import pathlib
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foreword.data.readers.split_names import SPLIT_NAMES
from foreword.data.row import Problem, Raw
from foreword.errors import DataError
from foreword.messages import Message

# What has one plain spelling as text; everything else that is no text, number, list or object stays as it is, and is
# refused where a template or a label would have to spell it.
_SPELLED = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)


def read_memory(source: object, labelled: bool = True) -> tuple[dict[str, Raw], str]:
    """Rows of an object in memory by split ("" where there is one alone), and the name it gets.

    A list may hold dictionaries, or texts where no labels are needed. A dictionary holds splits, or a list a column.

    Raises:
        DataError: an object of another type, or two columns with one name.
    """
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return {"": _of_frame(source, pandas.NA)}, "DataFrame"
    if pandas is not None and isinstance(source, pandas.Series):
        return read_memory(source.tolist(), labelled)
    if datasets is not None and isinstance(source, datasets.Dataset):
        names = {
            name: list(feature.names)
            for name, feature in source.features.items()
            if isinstance(feature, datasets.ClassLabel)
        }
        return {"": raw_of(source.to_list(), source.column_names, "Dataset", names)}, "Dataset"
    if isinstance(source, Mapping):
        return _of_mapping(source, labelled)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if source and all(isinstance(text, str) for text in source):
            raw = raw_of([{"text": text} for text in source], None, "list")
            raw.unnamed = True
            return {"": raw}, "list"
        return {"": raw_of(source, None, "list")}, "list"
    hint = "give a path, a DataFrame, a Dataset, a list of dictionaries, or a dictionary of splits"
    raise DataError("this cannot be read as rows", received=type(source).__name__, hint=hint)


def _of_frame(frame: Any, missing: object) -> Raw:
    columns = unique_names(map(str, frame.columns), "DataFrame")
    records = [dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
    return raw_of(records, columns, "DataFrame", missing=missing)


def _of_mapping(source: Mapping[Any, Any], labelled: bool) -> tuple[dict[str, Raw], str]:
    if source and all(str(name).lower() in SPLIT_NAMES for name in source):
        parts = {str(name).lower(): read_memory(rows, labelled) for name, rows in source.items()}
        return {name: next(iter(raws.values())) for name, (raws, _) in parts.items()}, "dict"
    columns = {str(name): list(cells) for name, cells in source.items() if _is_column(cells)}
    if not columns or len(columns) < len(source) or len({len(cells) for cells in columns.values()}) > 1:
        expected = "splits (train, dev, test), or a list of the same length for every column"
        hint = 'of a dictionary of other parts name one: data["part"]'
        received = ", ".join(map(repr, list(source)[:8])) or "nothing"
        raise DataError("this dictionary cannot be read as rows", expected=expected, received=received, hint=hint)
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"": raw_of(records, columns, "dict")}, "dict"


def _is_column(cells: object) -> bool:
    return hasattr(cells, "__len__") and hasattr(cells, "__iter__") and not isinstance(cells, str | bytes | Mapping)


def unique_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Column names without white space around them.

    Raises:
        DataError: two are the same.
    """
    columns = tuple(name.strip() for name in names)
    double = sorted({name for name in columns if columns.count(name) > 1})
    if double:
        raise DataError("two columns have the same name", where=where, received=", ".join(map(repr, double)))
    return columns


def raw_of(
    records: Iterable[object],
    columns: Iterable[str] | None,
    file: str,
    class_names: Mapping[str, list[str]] | None = None,
    missing: object = None,
) -> Raw:
    """Rows of dictionaries.

    Args:
        columns: their names in order; None: as they come.
        class_names: column -> the names of its class numbers.
        missing: what stands for a missing value besides None and NaN.
    """
    raw = Raw((), [])
    seen: dict[str, None] = dict.fromkeys(columns or ())
    for number, record in enumerate(records, 1):
        if not isinstance(record, Mapping):
            message = Message("expected a dictionary of fields, received {name}", name=type(record).__name__)
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
            continue
        fields = {str(name): plain_value(value, missing) for name, value in record.items()}
        for name, names in (class_names or {}).items():
            index = fields.get(name)
            if isinstance(index, int):
                # -1 is how Hugging Face data sets write "no label".
                fields[name] = names[index] if 0 <= index < len(names) else None
        seen.update(dict.fromkeys(fields))
        raw.records.append((fields, number))
    raw.columns = tuple(seen)
    return raw


def plain_value(value: Any, missing: object = None) -> object:
    """Plain Python for a value of numpy, pandas or pyarrow; what has no plain form stays as it is."""
    if value is None or value is missing or isinstance(value, str | bool | int | float):
        return None if value is missing else value
    if type(value).__name__ == "NaTType":
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.datetime64 | numpy.timedelta64):
        return None if numpy.isnat(value) else str(value)
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return plain_value(value.tolist(), missing)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, missing) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item, missing) for item in value]
    return str(value) if isinstance(value, _SPELLED) else value
