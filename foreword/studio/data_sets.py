"""Uploaded data: the file, what was said about its columns, and what the check finds in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from foreword.data.quality.check import check_tables
from foreword.data.quality.check_report import TITLES, CheckReport
from foreword.data.readers.open_source import WHOLE
from foreword.data.readers.registry import suffix_of, suffixes
from foreword.data.row import Problem
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.errors import DataError, ForewordError
from foreword.runs.prepare.ready_data import read_splits, task_of
from foreword.settings.schema import TaskOptions
from foreword.storage import write_atomically
from foreword.studio.workspace import Workspace, slug

_RECORD = "dataset.json"
_SHOWN = 500


@dataclass(frozen=True)
class DataSet:
    """An upload and what was said about it.

    Args:
        name: in the workspace.
        file: the file's own name.
        inputs, target, kind: the mapping; empty: as recognised.
        guidance, template, labels: the prompt, as far as it was edited; labels by ``label=words`` a line.
        skip_bad: rows with errors are left out.
    """

    name: str
    file: str
    inputs: tuple[str, ...] = ()
    target: str = ""
    kind: str = ""
    guidance: str = ""
    template: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    dev: str = ""
    test: str = ""

    def options(self) -> TaskOptions:
        """What is said of the task."""
        return TaskOptions(
            inputs=self.inputs,
            target=self.target or None,
            task_kind=self.kind or None,  # type: ignore[arg-type]
            guidance=self.guidance or None,
            template=self.template or None,
            labels=dict(self.labels) or None,
        )

    def flags(self) -> list[str]:
        """The same for the command line."""
        pairs = [("--target", self.target), ("--task", self.kind), ("--guidance", self.guidance)]
        pairs += [("--template", self.template), *(("--input", name) for name in self.inputs)]
        found = [part for flag, value in pairs if value for part in (f"{flag}={value}",)]
        return found + (["--skip-bad"] if self.skip_bad else [])


@dataclass(frozen=True)
class Looked:
    """What was found in a data set."""

    tables: dict[str, Table]
    task: Task
    report: CheckReport

    @property
    def table(self) -> Table:
        """The rows that are trained on."""
        return self.tables["train"]

    def kinds(self) -> list[tuple[str, str, str, int]]:
        """Kind, title, severity and number of the problems, in the order of the report."""
        counts = Counter((problem.kind, problem.severity) for problem in self.report.problems)
        order = list(TITLES)
        pairs = sorted(counts, key=lambda pair: (pair[1], order.index(pair[0]) if pair[0] in order else 99))
        return [(kind, TITLES.get(kind, kind), severity, counts[kind, severity]) for kind, severity in pairs]

    def bad_rows(self) -> int:
        """Rows that the data would be refused for."""
        return sum(count["dropped"] for count in self.report.counts.values())

    def problems(self, kind: str = "", most: int = _SHOWN) -> list[tuple[Problem, Mapping[str, object] | None]]:
        """Problems (of a kind), each with the row it is about, where that could be read."""
        rows = {row.id: row.fields for table in self.tables.values() for row in table.rows}
        wanted = (problem for problem in self.report.problems if kind in ("", problem.kind))
        return [(problem, rows.get(problem.row_id)) for problem, _ in zip(wanted, range(most), strict=False)]


def add(workspace: Workspace, file: str, content: BinaryIO) -> DataSet:
    """Keep an uploaded file as a new data set. Raises DataError for a kind of file that is not read."""
    title = Path(file.replace("\\", "/")).name
    if suffix_of(title) not in suffixes():
        raise DataError("this kind of file is not read", where=title, expected=", ".join(suffixes()))
    stored = slug(title)
    folder = workspace.new("data", stored.partition(".")[0])
    write_atomically(folder / stored, iter(lambda: content.read(1 << 20), b""))
    made = DataSet(folder.name, stored)
    keep(workspace, made)
    return made


def find(workspace: Workspace, name: str) -> DataSet:
    """A data set by its name. Raises NotThere."""
    folder = workspace.folder("data", name)
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        known = {key: value for key, value in record.items() if key in DataSet.__dataclass_fields__}
        found = DataSet(**{**known, "name": name, "inputs": tuple(record.get("inputs", ()))})
    except (OSError, ValueError, TypeError) as error:
        raise ForewordError("the record of these data is damaged", where=name) from error
    return found


def keep(workspace: Workspace, data: DataSet) -> None:
    """Write what was said about a data set."""
    content = json.dumps(asdict(data), ensure_ascii=False, indent=1)
    write_atomically(workspace.folder("data", data.name) / _RECORD, [content.encode()])


def path_of(workspace: Workspace, data: DataSet, part: str = "file") -> Path:
    """The uploaded file, or that of the parts ``dev`` and ``test`` where the data came in parts."""
    return workspace.folder("data", data.name) / slug(str(getattr(data, part)))


def look(workspace: Workspace, data: DataSet) -> Looked:
    """Read and check a data set. Raises DataError where it cannot be read at all."""
    path = path_of(workspace, data)
    # Only what decides about reading and checking; the prompt's text is checked where it is edited.
    return _look(replace_labels(data), path, path.stat().st_mtime_ns)


def replace_labels(data: DataSet) -> DataSet:
    """The same in a form that can be a key."""
    return replace(data, labels=_Pairs(data.labels))


class _Pairs(dict[str, str]):
    """A dictionary that is never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


@lru_cache(maxsize=4)
def _look(data: DataSet, path: Path, stamp: int) -> Looked:
    options = data.options()
    dev, test = (str(path.with_name(slug(part))) if part else None for part in (data.dev, data.test))
    tables = read_splits(str(path), dev, test, options, None)
    if "train" not in tables and WHOLE in tables:
        tables = {"train": tables[WHOLE]}
    task = task_of(tables["train"], options)
    return Looked(tables, task, check_tables(tables, task))


def lengths(table: Table, inputs: Iterable[str], bins: int = 24) -> tuple[list[int], int, int, int]:
    """Characters of the rows' inputs: counts by bin up to the longest, median, 95th percentile, maximum."""
    names = tuple(inputs)
    sizes = sorted(sum(len(str(row.fields.get(name) or "")) for name in names) for row in table.rows)
    if not sizes:
        return [], 0, 0, 0
    most, counts = sizes[-1], [0] * bins
    for size in sizes:
        counts[min(bins - 1, size * bins // (most + 1))] += 1
    return counts, sizes[len(sizes) // 2], sizes[min(len(sizes) - 1, len(sizes) * 95 // 100)], most


def raw_line(path: Path, where: str, most: int = 300) -> str:
    """The line of a text file that a problem's place names; "" for another kind of file."""
    number = where.rpartition(":")[2]
    if not number.isdigit() or suffix_of(path.name) in (".parquet", ".pq", ".arrow", ".feather", ".xlsx", ".xlsm"):
        return ""
    with path.open("rb") as file:
        for index, line in enumerate(file, start=1):
            if index == int(number):
                return line.decode("utf-8", "replace").rstrip("\r\n")[:most]
    return ""


def bad_rows_csv(found: Looked, path: Path) -> str:
    """The rows with errors as CSV: their place and what is wrong, then their own columns."""
    import csv
    import io

    columns = list(found.table.columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["where", "problem", *columns])
    for problem, fields in found.problems(most=1_000_000):
        if problem.severity == "error":
            cells: list[Any] = [fields.get(name, "") for name in columns] if fields else [raw_line(path, problem.where)]
            writer.writerow([Path(problem.where).name, problem.message, *cells])
    return text.getvalue()
