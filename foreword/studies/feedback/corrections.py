"""Corrected rows: from a data file, or from predictions with the right answer in ``gold``.

A prediction names a row by its id, or shows the text that the model read; either leads back to the row's own columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.data.quality.check import check_tables
from foreword.data.quality.unicode import normalise
from foreword.data.readers.read import read
from foreword.data.row import Row, Source, label_text, make_rows, references
from foreword.data.table import Table
from foreword.data.task.columns import Layout
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.errors import DataError, TemplateError
from foreword.studies.feedback.request_log import corrected, is_request_log

_HERE = "\u2045HERE\u2046"


def fields_of(task: Task) -> tuple[str, ...]:
    """The columns of a row that the model reads."""
    return tuple(sorted((parsed(task.template).fields | {task.guidance_column}) - {"row", ""}))


def read_corrections(path: str | Path, task: Task, known: Mapping[str, Row], layout: Layout) -> tuple[list[Row], int]:
    """The corrected rows of a file, each once, and how many rows of it had no correction.

    Args:
        path: a data file with the task's columns; or JSON Lines of predictions, in which ``gold`` is the right answer
            and rows without one are passed over; or a server's log of requests with corrections.
        known: id -> row of the run's data.
        layout: of the run's data.

    Raises:
        DataError: a row that cannot be led back to its columns, an unknown label, an empty field, or one text with
            two corrections; all of them at once, with file:line.
    """
    text = Path(path).read_bytes() if Path(path).exists() else b""
    first = text.lstrip()[:1] == b"{" and text.split(b"\n", 1)[0]
    if first and _is_prediction(first, task):
        rows, without = _from_predictions(Path(path), task, known)
    else:
        logged = list(corrected(Path(path), task.target)) if is_request_log(Path(path)) else None
        if logged == []:
            raise DataError("no answer in the log has a correction", where=str(path))
        table = read(str(path) if logged is None else logged, inputs=fields_of(task), target=task.target)
        if table.problems:
            raise DataError(
                f"{len(table.problems)} rows cannot be read: {table.problems[0].message}",
                where=table.problems[0].where,
            )
        rows, without = list(table.rows), 0
    if not rows:
        raise DataError("there is no corrected row in the file", where=str(path), hint="write the answers into `gold`")
    return _checked(rows, path, task, layout), without


def _is_prediction(line: bytes, task: Task) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"id", "input", "gold"} <= record.keys() and task.target not in record


def _from_predictions(path: Path, task: Task, known: Mapping[str, Row]) -> tuple[list[Row], int]:
    rows, without = [], 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
            gold = label_text(record["gold"])
            name, shown = record["id"], record["input"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("not a prediction", where=where, expected="id, input, gold", received=error) from error
        if not gold:
            without += 1
            continue
        rows.append(
            Row("", {**_columns(name, shown, task, known, where), task.target: gold}, Source(str(path), number))
        )
    return rows, without


def _columns(name: object, shown: object, task: Task, known: Mapping[str, Row], where: str) -> dict[str, Any]:
    """The columns of the row that a prediction was made for."""
    if isinstance(shown, Mapping):
        return dict(shown)
    row = known.get(str(name))
    if row is not None:
        return dict(row.fields)
    found = unrendered(str(shown), task)
    if found is None:
        raise DataError(
            "the row's columns cannot be told from the prediction",
            where=where,
            expected="an id of the run's data, or a template with one field",
            hint=f"give `input` as an object with {', '.join(fields_of(task))}",
        )
    return found


def unrendered(text: str, task: Task) -> dict[str, str] | None:
    """The one field of a template from the text that was made with it; None where that cannot be told."""
    names = fields_of(task)
    if len(names) != 1 or task.guidance_column:
        return None
    try:
        made = parsed(task.template).render({names[0]: _HERE}, task.guidance)
    except TemplateError:
        return None
    before, found, after = made.partition(_HERE)
    # A chat template puts its own words around, and a tokenizer its own white space.
    start, end = text.find(before.strip()), text.rfind(after.strip())
    if not found or _HERE in after or start < 0 or end < 0:
        return None
    field = text[start + len(before.strip()) : end if after.strip() else len(text)].strip()
    return {names[0]: field} if field else None


def _checked(rows: Sequence[Row], path: str | Path, task: Task, layout: Layout) -> list[Row]:
    """The rows once each, with ids; refused as a data file would be."""
    made = make_rows((dict(row.fields), row.source.line, str(path)) for row in rows)
    columns = tuple(dict.fromkeys(name for row in made for name in row.fields))
    table = Table(made, columns, Path(path).name, replace(layout, target=task.target), (), "")
    found = [one for one in check_tables({"corrections": table}, task).errors if one.kind != "duplicate"]
    if found:
        lines_of = {row.id: row.source.line for row in made}
        found.sort(key=lambda one: lines_of.get(one.row_id, 0))
        lines = "\n".join(f"  {one.where}: {one.message}" for one in found)
        raise DataError(f"{len(found)} corrected rows cannot be used\n{lines}", where=str(path), hint="mend them")
    once: dict[tuple[str, ...], Row] = {}
    for row in made:
        once.setdefault((key_of(row, task), *answer_of(row, task)), row)
    return list(once.values())


def key_of(row: Row, task: Task) -> str:
    """What the model reads of a row, normalised: rows with one key are one row with two answers."""
    return "\n".join(normalise(str(row.fields.get(name) or "")) for name in fields_of(task))


def answer_of(row: Row, task: Task) -> tuple[str, ...]:
    """A row's right answers."""
    return references(row.fields.get(task.target))
