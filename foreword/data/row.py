"""Rows and what can be wrong with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from foreword.errors import DataError
from foreword.messages import Message

_CAUSES = 5


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
    turns: str = ""
    """The field with a conversation's turns, where the rows were conversations."""
    unnamed: bool = False
    """The rows are texts alone, so that their column has any name that is asked for."""


def with_causes(error: DataError, problems: Iterable[Problem]) -> DataError:
    """The same error with the rows that could not be read: what was refused may be missing for their sake."""
    unreadable = [problem for problem in problems if problem.severity == "error"]
    if not unreadable:
        return error
    hint = Message("look first at the rows that cannot be read ({n:,}):", n=len(unreadable))
    for problem in unreadable[:_CAUSES]:
        hint = Message("{before}\n    {where}: {message}", before=hint, where=problem.where, message=problem.message)
    if len(unreadable) > _CAUSES:
        hint = Message("{before}\n    and {n:,} more", before=hint, n=len(unreadable) - _CAUSES)
    if error.hint:
        hint = Message("{before}\n    then: {hint}", before=hint, hint=error.hint)
    return DataError(error.problem, where=error.where, expected=error.expected, received=error.received, hint=hint)


def canonical(value: object) -> str:
    """One spelling for one value: JSON with sorted keys. Two rows with equal fields give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_spelled)


def _spelled(value: object) -> str:
    # An object of an unknown class may spell its address, which differs from run to run.
    return str(value) if isinstance(value, bytes | set | frozenset) else f"<{type(value).__name__}>"


def make_rows(records: Iterable[tuple[dict[str, object], int, str]]) -> tuple[Row, ...]:
    """Rows with ids ``<12 hex digits of the fields' sha256>-<ordinal among equal rows>``.

    The id depends on the content and not on the line, so it survives a reordering of the file.
    """
    seen: Counter[str] = Counter()
    rows: list[Row] = []
    for fields, line, file in records:
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


def what_it_is(value: object) -> str:
    """A cell that is no text, in words: "an object with the keys a, b"; "" for texts, numbers and booleans."""
    if value is None or isinstance(value, str | bool | int | float):
        return ""
    if isinstance(value, Mapping):
        keys = ", ".join(map(str, list(value)[:5]))
        return Message("an object with the keys {keys}", keys=keys) if keys else Message("an empty object")
    if isinstance(value, list | tuple):
        inner = next((what_it_is(item) for item in value if what_it_is(item)), "")
        if inner:
            return Message("a list of {n}, of which an item is {inner}", n=len(value), inner=inner)
        return Message("a list of {n}", n=len(value))
    return Message("of the type {name}", name=type(value).__name__)


def label_text(value: object) -> str:
    """A label as text: 0 and "0" and 0.0 are "0", true is "true"; "" when it is missing or no text.

    A column of whole numbers with a gap becomes floating point in pandas, so 1.0 must stay the label 1.
    """
    if is_missing(value) or what_it_is(value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def references(value: object) -> tuple[str, ...]:
    """The reference texts in a target cell: one, or several when the cell is a list. Missing ones are left out."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(text for text in (label_text(item) for item in values) if text)


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
