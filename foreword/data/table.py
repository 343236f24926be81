"""A table: the rows of one file with what its columns mean and which rows could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from foreword.data.row import Problem, Row
from foreword.data.task.columns import Layout


@dataclass(frozen=True)
class Table:
    """Rows, columns, and where they come from.

    ``name`` is the file's name without its folder, ``problems`` are the rows that could not be read, ``digest`` is the
    sha256 of the file's bytes (of the canonical rows for data in memory), ``encoding`` that of the text.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    name: str
    layout: Layout
    problems: tuple[Problem, ...]
    digest: str
    encoding: str = "utf-8"

    def __len__(self) -> int:
        return len(self.rows)

    def with_rows(self, rows: Iterable[Row]) -> Table:
        """The same table with other rows (a split of it, or the rows a check let through)."""
        return replace(self, rows=tuple(rows))

    def aligned(self, layout: Layout) -> Table:
        """The same rows under another table's column names, so that one template fits both.

        Only what was recognised moves: ``refs`` becomes ``ref``, ``sentence`` becomes ``text``. Ids stay.
        """
        mine = (*self.layout.inputs, self.layout.target)
        theirs = (*layout.inputs, layout.target)
        names = {old: new for old, new in zip(mine, theirs, strict=False) if old and new and new not in self.columns}
        if len(mine) != len(theirs) or not names:
            return self
        rows = tuple(
            replace(row, fields={names.get(name, name): value for name, value in row.fields.items()})
            for row in self.rows
        )
        columns = tuple(names.get(name, name) for name in self.columns)
        return replace(self, rows=rows, columns=columns, layout=layout)
