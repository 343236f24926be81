"""Which test rows belong together, so that they are no independent draws: a column's values, or near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping

from foreword.data.quality.near_duplicates import near_pairs
from foreword.data.quality.split import input_text
from foreword.data.quality.unicode import normalise
from foreword.data.table import Table
from foreword.errors import SettingsError

LEAST = 0.05
"""The share of rows that are near-duplicates of others from which these are groups without being asked for."""


def row_groups(tables: Mapping[str, Table], column: str | None) -> dict[str, str]:
    """Row id -> group; empty where every row stands for itself.

    Args:
        column: with the group of each row (a document, a speaker, a user); None: near-duplicates, where there are many.

    Raises:
        SettingsError: there is no such column.
    """
    groups: dict[str, str] = {}
    for name, table in tables.items():
        if column is not None:
            groups |= _of_column(table, column)
        elif name != "train":
            groups |= _near_duplicates(table)
    return groups


def _of_column(table: Table, column: str) -> dict[str, str]:
    groups = {row.id: str(row.fields[column]) for row in table.rows if row.fields.get(column) is not None}
    if len(groups) < len(table.rows):
        known = sorted({name for row in table.rows for name in row.fields})
        raise SettingsError(
            "a row has no group", where=f"group: {column}", received=table.name, expected=", ".join(known),
            hint="name a column that every row has",
        )  # fmt: skip
    return groups


def _near_duplicates(table: Table) -> dict[str, str]:
    texts = [normalise(input_text(table, index)) for index in range(len(table.rows))]
    first: dict[str, int] = {}
    heads = [first.setdefault(text, index) for index, text in enumerate(texts)]
    for pair in near_pairs(texts, [table.name] * len(texts)):
        a, b = _head(heads, pair.first), _head(heads, pair.second)
        heads[max(a, b)] = min(a, b)
    groups = [_head(heads, index) for index in range(len(texts))]
    if len(texts) - len(set(groups)) < max(1, LEAST * len(texts)):
        return {}
    return {row.id: table.rows[head].id for row, head in zip(table.rows, groups, strict=True)}


def _head(heads: list[int], index: int) -> int:
    while heads[index] != index:
        index = heads[index]
    return index
