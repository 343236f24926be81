"""Rows and what can be wrong with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """Where a row comes from: the file as the user named it, and the line where the row starts.

    Lines count from 1. For Parquet and data in memory the number is the row's, also from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Row:
    """One row: a stable id, its fields by column name, and where it was read."""

    id: str
    fields: Mapping[str, object]
    source: Source


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the data.

    ``kind`` is a short word (``unreadable``, ``empty``, ``duplicate`` ...), ``where`` is ``file:line``, ``row_id`` is
    empty when the row could not be read, ``split`` is the split's name once the check knows it.
    """

    kind: str
    where: str
    message: str
    severity: Literal["error", "warning"] = "error"
    row_id: str = ""
    split: str = ""

    def to_json(self) -> dict[str, str]:
        """The same as a dictionary of strings."""
        return {
            "kind": self.kind,
            "where": self.where,
            "message": self.message,
            "severity": self.severity,
            "row_id": self.row_id,
            "split": self.split,
        }


@dataclass
class Raw:
    """What a reader of one format hands over: records with their line numbers, before rows are made of them."""

    columns: tuple[str, ...]
    records: list[tuple[dict[str, object], int]]
    problems: list[Problem] = field(default_factory=list)
    description: str = ""


def canonical(value: object) -> str:
    """One spelling for one value: JSON with sorted keys. Two rows with equal fields give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def make_rows(records: Iterable[tuple[dict[str, object], int]], file: str) -> tuple[Row, ...]:
    """Rows with ids ``<12 hex digits of the fields' sha256>-<ordinal among equal rows>``.

    The id depends on the content and not on the line, so it survives a reordering of the file.
    """
    seen: Counter[str] = Counter()
    rows: list[Row] = []
    for fields, line in records:
        digest = hashlib.sha256(canonical(fields).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        rows.append(Row(f"{digest}-{seen[digest]}", fields, Source(file, line)))
        seen[digest] += 1
    return tuple(rows)


def is_missing(value: object) -> bool:
    """True for None, NaN and text with nothing but white space."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, list | tuple) and not value


def label_text(value: object) -> str:
    """A label as text: 0 and "0" and 0.0 are "0", true is "true"; "" when it is missing.

    A column of whole numbers with a gap becomes floating point in pandas, so 1.0 must stay the label 1.
    """
    if is_missing(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def references(value: object) -> tuple[str, ...]:
    """The reference texts in a target cell: one, or several when the cell is a list. Missing ones are left out."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(text for text in (label_text(one) for one in values) if text)


def unusable(value: object) -> str:
    """Why a cell's text cannot be used ("" when it can): a NUL character, or half of a surrogate pair."""
    if isinstance(value, str):
        if "\x00" in value:
            return "a NUL character (\\x00)"
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return "half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
        return ""
    if isinstance(value, Mapping):
        return next((why for pair in value.items() for why in map(unusable, pair) if why), "")
    if isinstance(value, list | tuple):
        return next((why for why in map(unusable, value) if why), "")
    return ""
