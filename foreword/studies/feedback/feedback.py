"""Corrected rows into a run: a new version of its data, the old ones kept, and what the foreword makes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.data.quality.split import DataLock
from foreword.data.readers.read import read
from foreword.data.row import Row, make_rows
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.errors import DataError, ResumeError
from foreword.evaluation.predictions import Prediction, write_jsonl
from foreword.evaluation.report.summary import evaluate, render
from foreword.runs.prepare.prepare import plain_settings, say_nothing
from foreword.runs.prepare.ready_data import splits
from foreword.runs.train.dev_score import metric_names
from foreword.runs.train.run_record import alone, recorded
from foreword.runs.use.use import Opened, open_foreword
from foreword.settings.layers import from_json
from foreword.settings.schema import ProgressCall
from foreword.storage import write_atomically
from foreword.studies.feedback.corrections import answer_of, fields_of, key_of, read_corrections

FOLDER = "feedback"
"""Below the run's folder: ``versions.json``, and a folder ``vN`` with the rows of each version."""


@dataclass(frozen=True)
class FeedbackResult:
    """What corrections changed.

    Args:
        version: of the data now; 1 is what the run was trained on.
        added: rows that are new, and went to train.
        amended: split -> rows whose answer was another one.
        known: rows that the data held already.
        without: rows of the file that had no correction.
        systems: ``corrected`` (all corrections so far), ``test`` (as it was when the run was trained) and, where test
            rows were amended, ``test amended`` -> figures of the run's foreword.
        retrain: the command that learns from the new version; "" when nothing changed.

    >>> from foreword.api import FeedbackResult
    >>> FeedbackResult("run", version=1, added=2, amended={"train": 1}, known=0, without=0).added
    2
    """

    folder: str
    version: int
    added: int
    amended: dict[str, int]
    known: int
    without: int
    systems: dict[str, Any] = field(default_factory=dict)
    retrain: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        parts = [f"{self.added} rows added to train"]
        parts += [f"{count} answers amended in {name}" for name, count in self.amended.items() if count]
        parts += [f"{self.known} known already"] if self.known else []
        parts += [f"{self.without} rows without a correction passed over"] if self.without else []
        lines = [f"data version {self.version}: {', '.join(parts)}", "the foreword as it is:"]
        lines.append(render(self.systems).rstrip())
        if self.retrain:
            lines.append(f"learn from them: {self.retrain}")
        return "\n".join(lines)


def feedback(
    folder: str | Path, rows: str | Path, *, base: str | Base | None = None, progress: ProgressCall | None = None
) -> FeedbackResult:
    """Take corrected rows into a run's data as a new version, and evaluate its foreword on them.

    A row that the data do not hold goes to train. One that they hold with another answer is amended where it is, so no
    test row is ever learned from. The same rows again change nothing. A version is a folder that appears whole, and is
    in force once ``versions.json`` names it. Several may do so at the same time: each adds to what the one before left.

    Args:
        folder: of a training run.
        rows: a data file with the task's columns, or predictions (JSON Lines) with the right answers in ``gold``.
        base: as for ``evaluate``.

    Raises:
        DataError: a row that cannot be used (all of them at once), or the run's data have changed or are gone.
        ResumeError: ``folder`` is not a run, or its data were in memory.
    """
    folder = Path(folder)
    opened = open_foreword(folder / "model.foreword", base, progress)
    task, first = opened.task, _first(folder)
    # What the next version holds hangs on the one in force, so two at once take turns from here on.
    with alone(folder):
        store = _DataVersions(folder)
        now = store.tables(task) or first
        known = {row.id: row for table in (*first.values(), *now.values()) for row in table.rows}
        corrected, without = read_corrections(rows, task, known, first["train"].layout)
        merged, report = _merged(now, corrected, task)
        if report["added"] or any(report["amended"].values()):
            store.add(first, merged, corrected, report, rows, task)
    systems = _evaluated(opened, first, merged, store.corrections(task), store.place, progress)
    result = FeedbackResult(
        folder=str(store.place),
        version=store.version,
        added=len(report["added"]),
        amended={name: len(ids) for name, ids in report["amended"].items()},
        known=report["known"],
        without=without,
        systems=systems,
        retrain=_command(folder, store, merged),
    )
    content = json.dumps(plain_settings(result.to_json()), ensure_ascii=False, indent=1)
    write_atomically(store.place / "report.json", [content.encode("utf-8", "backslashreplace")])
    return result


def _first(folder: Path) -> dict[str, Table]:
    """The run's data as they were when it was trained."""
    saved = recorded(folder)
    request = saved["request"]
    if any(str(request[name]).startswith("<") for name in ("data", "dev", "test")):
        raise ResumeError(
            "the run's data were in memory, so its rows are not on disk",
            where=str(folder),
            hint="train from files to take corrections",
        )
    lock = DataLock.from_json(saved["data"])
    tables = splits(from_json(request, str(folder)).request())
    kept = {}
    for name, one in lock.splits.items():
        rows = {row.id: row for row in tables[name].rows} if name in tables else {}
        if any(ident not in rows for ident in one.ids):
            raise DataError(
                f"the run's data have changed: rows of {name} are gone", where=one.name, hint="bring the old file back"
            )
        kept[name] = tables[name].with_rows(rows[ident] for ident in one.ids)
    return kept


def _merged(now: Mapping[str, Table], corrected: Sequence[Row], task: Task) -> tuple[dict[str, Table], dict[str, Any]]:
    """The tables with the corrections in, and what was done."""
    places: dict[str, list[tuple[str, int]]] = {}
    tables = {name: list(table.rows) for name, table in now.items()}
    for name, rows in tables.items():
        for index, row in enumerate(rows):
            places.setdefault(key_of(row, task), []).append((name, index))
    added: list[str] = []
    amended: dict[str, list[str]] = {name: [] for name in tables}
    known = 0
    for row in corrected:
        found = places.get(key_of(row, task), [])
        wrong = [place for place in found if answer_of(tables[place[0]][place[1]], task) != answer_of(row, task)]
        for name, index in wrong:
            old = tables[name][index]
            fields = {**old.fields, task.target: row.fields[task.target]}
            tables[name][index] = replace(old, fields=fields)
            amended[name].append(old.id)
        known += bool(found) and not wrong
        if not found:
            places[key_of(row, task)] = [("train", len(tables["train"]))]
            tables["train"].append(row)
            added.append(row.id)
    made = {name: now[name].with_rows(_renamed(rows)) for name, rows in tables.items()}
    return made, {"added": added, "amended": amended, "known": known}


def _renamed(rows: Sequence[Row]) -> list[Row]:
    """The rows with the ids that they have when they are read again: an amended row is another row."""
    made = make_rows((dict(row.fields), row.source.line, "") for row in rows)
    return [replace(row, id=new.id) for row, new in zip(rows, made, strict=True)]


class _DataVersions:
    """The versions of a run's data on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        path = self.folder / "versions.json"
        self.versions: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["versions"] if path.exists() else []

    @property
    def version(self) -> int:
        """The version in force; 1 is the run's own."""
        return max(1, len(self.versions))

    @property
    def place(self) -> Path:
        """The folder of the version in force."""
        return self.folder / f"v{self.version}"

    def tables(self, task: Task) -> dict[str, Table]:
        """The rows of the version in force; {} for the run's own."""
        return {name: self._table(name, task) for name in self.versions[-1]["data"]} if self.versions[1:] else {}

    def corrections(self, task: Task) -> Table | None:
        """All corrections so far, the last answer for each row."""
        return self._table("corrections", task) if self.versions[1:] else None

    def _table(self, name: str, task: Task) -> Table:
        return read(str(self.place / f"{name}.jsonl"), inputs=fields_of(task), target=task.target)

    def add(
        self, first: Mapping[str, Table], tables: Mapping[str, Table], corrected: Sequence[Row],
        report: Mapping[str, Any], source: str | Path, task: Task,
    ) -> None:  # fmt: skip
        """Write the next version; it counts once ``versions.json`` names it."""
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        if not self.versions:
            self.versions = [{"version": 1, "created": stamp, "data": DataLock.of(first).to_json()}]
        number = len(self.versions) + 1
        earlier, again = self.corrections(task), {key_of(row, task) for row in corrected}
        before = [row for row in (earlier.rows if earlier else ()) if key_of(row, task) not in again]
        partial, final = self.folder / f".v{number}.partial", self.folder / f"v{number}"
        for left in (partial, final):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, table in tables.items():
            write_atomically(partial / f"{name}.jsonl", map(_line, table.rows))
        write_atomically(partial / "corrections.jsonl", map(_line, [*before, *corrected]))
        partial.rename(final)
        self.versions.append(
            {
                "version": number,
                "parent": number - 1,
                "created": stamp,
                "source": str(source),
                "digest": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
                "added": list(report["added"]),
                "amended": dict(report["amended"]),
                "data": DataLock.of(tables).to_json(),
            }
        )
        content = json.dumps({"versions": self.versions}, ensure_ascii=False, indent=1)
        write_atomically(self.folder / "versions.json", [content.encode("utf-8", "backslashreplace")])


def _line(row: Row) -> bytes:
    return (json.dumps(plain_settings(row.fields), ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _evaluated(
    opened: Opened, first: Mapping[str, Table], now: Mapping[str, Table], corrections: Table | None, place: Path,
    progress: ProgressCall | None,
) -> dict[str, Any]:  # fmt: skip
    """The figures of the run's foreword on the corrected rows and on test, before and after amendments."""
    wanted = {} if corrections is None else {"corrected": corrections}
    if "test" in first:
        wanted["test"] = first["test"]
        if [row.fields for row in now["test"].rows] != [row.fields for row in first["test"].rows]:
            wanted["test amended"] = now["test"]
    out: dict[str, Any] = {}
    task, report = opened.task, progress or say_nothing
    for name, table in wanted.items():
        examples = opened.encode(table, labelled=True)
        found: list[Prediction] = opened.asker.answer(
            opened.value,
            examples,
            lambda done, total, name=name: report(f"evaluate {name}", done, total),  # type: ignore[misc]
        )
        write_jsonl(place / "predictions" / f"{name.replace(' ', '-')}.jsonl", found)
        out[name] = evaluate(found, task.kind, metric_names(task), task.labels)
    return out


def _command(folder: Path, store: _DataVersions, tables: Mapping[str, Table]) -> str:
    if store.version == 1:
        return ""
    flags = [f"--{name} {store.place / name}.jsonl" for name in ("dev", "test") if name in tables]
    none = "" if "test" in tables else " --set test_fraction=0"
    data = store.place / "train.jsonl"
    return f"foreword train {data} {' '.join(flags)} --config {folder / 'settings.yaml'}{none} --output-dir RUN"
