"""The first stage of a run: its rows read, split and checked, and the task that they are for; no model, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from foreword.data.quality.check import check_tables
from foreword.data.quality.check_report import CheckReport, clean
from foreword.data.quality.split import split
from foreword.data.readers.open_source import WHOLE
from foreword.data.readers.read import read
from foreword.data.readers.read import read_splits as every_split
from foreword.data.table import Table
from foreword.data.task.guidance import in_front
from foreword.data.task.infer import make_task
from foreword.data.task.task import Decoding, Task
from foreword.errors import DataError
from foreword.messages import Message
from foreword.settings.schema import TaskOptions, TrainRequest


@dataclass(frozen=True)
class ReadyData:
    """Rows that a model can be asked about, as far as that shows without one.

    Args:
        task: what is asked of a row.
        tables: split name (``train``, ``dev`` and, where there is one, ``test``) -> its rows without the refused ones.
        report: what the check found.
        dropped: split name -> reason -> how many rows were left out.
    """

    task: Task
    tables: dict[str, Table]
    report: CheckReport
    dropped: dict[str, dict[str, int]]


def ready_data(request: TrainRequest) -> ReadyData:
    """Read, split and check the data that ``request`` names.

    Raises:
        DataError: a file cannot be read, or the check refuses the data (and ``skip_bad`` is off).
        SettingsError: a task that the data do not have.
    """
    tables = splits(request)
    task = task_of(tables["train"], request.task_options, request.settings.guidance_share != "1")
    report = check_tables(tables, task)
    refuse(report, request.skip_bad)
    kept, dropped = clean(tables, report)
    return ReadyData(task, kept, report, dropped)


def splits(request: TrainRequest) -> dict[str, Table]:
    """The request's splits: train, dev and, where there is one, test."""
    options = request.task_options
    return _split(read_splits(request.data, request.dev, request.test, options, request.encoding), options)


def read_splits(
    data: object, dev: object, test: object, options: TaskOptions, encoding: str | None
) -> dict[str, Table]:
    """The tables that were given, with the columns of the first one in their parts.

    Raises:
        DataError: a file cannot be read, or lacks a column of the training data.
    """
    kind = options.task_kind
    if kind is None and options.labels and options.target:
        kind = "classification"
    how: dict[str, Any] = {"encoding": encoding, "inputs": options.inputs, "target": options.target, "kind": kind}
    held = every_split(data, **how)
    tables = {"train": held[WHOLE]} if WHOLE in held else held
    if "train" not in tables:
        raise DataError("the data have no split to train on", expected="train", received=", ".join(tables))
    tables |= {name: read(source, **how) for name, source in (("dev", dev), ("test", test)) if source is not None}
    tables = {name: tables[name] for name in ("train", "dev", "test") if name in tables}
    layout = tables["train"].layout
    return {name: table.aligned(layout) for name, table in tables.items()}


def _split(tables: dict[str, Table], options: TaskOptions) -> dict[str, Table]:
    wanted = {
        "dev": 0 if "dev" in tables else _size(options.dev_fraction),
        "test": 0 if "test" in tables else _size(options.test_fraction),
    }
    if not any(wanted.values()):
        return tables
    parts = split(
        tables["train"], dev=wanted["dev"], test=wanted["test"], seed=options.split_seed, group=options.group
    ).tables()
    return {
        name: tables[name] if name in tables and name != "train" else table
        for name, table in parts.items()
        if len(table) or name in tables
    }


def _size(asked: float) -> float | int:
    return int(asked) if asked >= 1 else asked


def task_of(table: Table, options: TaskOptions, guidance_in_row: bool = False) -> Task:
    """What is asked of the table's rows: as the options say, the rest made from the data."""
    return make_task(
        table,
        template=options.template,
        guidance=options.guidance_text(),
        labels=options.labels,
        metric=options.metric,
        chat=options.chat,
        head=options.head,
        pooling=options.pooling,
        decoding=Decoding(**options.decoding()),
        guidance_column=options.guidance_column or "",
        guidance_form=options.guidance_form,
        guidance_replaces=options.guidance_replaces or "",
        guidance_in_row=guidance_in_row,
    )


def refuse(report: CheckReport, skip_bad: bool) -> None:
    """Refuse data with errors that are not to be left out. Raises DataError."""
    if report.refuses and not skip_bad:
        raise DataError(
            Message("the data has problems\n{value}", value=report.render()),
            hint="mend them, or leave those rows out with --skip-bad",
        )


def shown(task: Task) -> list[str]:
    """What is asked, for people: what was not said about the task was made from the data, and has to be seen."""
    lines: list[str] = [Message("template {text!r}", text=task.template)]
    if task.guidance:
        place = "" if in_front(task) else f" ({task.guidance_mode})"
        lines.append(Message("prompt {text!r}{place}", text=task.guidance, place=place))
    if task.guidance_column:
        lines.append(
            Message(
                "guidance of each row from the column {guidance_column!r} ({guidance_mode})",
                guidance_column=task.guidance_column,
                guidance_mode=task.guidance_mode,
            )
        )
    if task.kind == "tagging":
        lines.append(Message("tags {names}", names=", ".join(task.labels)))
    elif task.head:
        lines.append(Message("labels {names}", names=", ".join(task.labels)))
    elif task.verbalizer:
        words = [(label, " or ".join(map(repr, some))) for label, some in task.label_words.items()]
        words += [("no label", repr(task.absent))] if task.absent else []
        lines.append(Message("label words {names}", names=", ".join(f"{label} -> {said}" for label, said in words)))
    return lines
