"""The rows of a distillation: the user's own, with or without answers, or the base's own questions; then the same with
the teacher's answers in the place of theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.data.readers.read import read
from foreword.evaluation.predictions import Prediction
from foreword.runs.prepare.prepare import Prepared
from foreword.settings.schema import TrainRequest
from foreword.storage import write_atomically

ANSWER = "answer"
_UNKNOWN = "?"


def with_targets(request: TrainRequest, folder: Path) -> tuple[TrainRequest, bool]:
    """The request with a target in every row, and whether these are the user's own right answers.

    Rows without answers get one that stands for none, which the teacher's will replace.
    """
    options = request.task_options
    table = read(request.data, encoding=request.encoding, inputs=options.inputs, labelled=False)
    target = options.target or table.layout.target
    if target and any(row.fields.get(target) not in (None, "") for row in table.rows):
        return request, True
    labels = list(options.labels or ())
    rows = [
        {**row.fields, ANSWER: labels[number % len(labels)] if labels else _UNKNOWN}
        for number, row in enumerate(table.rows)
    ]
    path = write_rows(folder / "teacher" / "asked.jsonl", rows)
    inputs = options.inputs or table.layout.inputs
    kind = options.task_kind or ("classification" if labels else "generation")
    return replace(
        request, data=path, task_options=replace(options, inputs=tuple(inputs), target=ANSWER, task_kind=kind)
    ), False


def with_answers(
    prepared: Prepared, answers: Mapping[str, Sequence[Prediction]], leave_out: frozenset[str], folder: Path
) -> tuple[TrainRequest, int]:
    """The request over the rows with the teacher's answers, a file a split, and how many rows it answered with nothing.

    Args:
        answers: split -> the teacher's answers to its rows; other splits keep their own.
        leave_out: ids of rows that are part of the teacher.
    """
    paths, empty = {}, 0
    for name, table in prepared.tables.items():
        said = {one.id: one.output for one in answers.get(name, ())}
        rows = []
        for row in table.rows:
            if row.id in leave_out:
                continue
            given = row.fields if name not in answers else {**row.fields, table.layout.target: said[row.id]}
            empty += given[table.layout.target] == ""
            if given[table.layout.target] != "":
                rows.append(given)
        paths[name] = write_rows(folder / "teacher" / f"{name}.jsonl", rows)
    task, options = prepared.task, prepared.request.task_options
    fixed = replace(
        options, template=task.template, guidance=task.guidance, guidance_file=None, target=task.target,
        inputs=prepared.tables["train"].layout.inputs, task_kind=task.kind, metric=task.metric,
        labels=options.labels if options.labels or task.kind != "classification" else dict(task.verbalizer),
    )  # fmt: skip
    return replace(
        prepared.request, data=paths["train"], dev=paths["dev"], test=paths.get("test"), task_options=fixed,
    ), empty  # fmt: skip


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON lines; the file's path."""
    lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    write_atomically(path, (line.encode("utf-8", "backslashreplace") for line in lines))
    return str(path)
