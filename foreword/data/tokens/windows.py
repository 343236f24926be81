"""Plain texts longer than the base reads, cut where its window ends, so that nothing of them is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from foreword.data.row import Problem, Row
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.tokenize import Tokenizer
from foreword.messages import Message

CONTINUES = "continues"
"""The field of a part that another one follows: it has no end to be learned."""


def in_windows(table: Table, task: Task, tokenizer: Tokenizer, room: int) -> tuple[Table, list[Problem]]:
    """The table with long texts as several rows of at most ``room`` tokens, and a warning for each that was cut."""
    [name] = parsed(task.template).fields
    rows: list[Row] = []
    problems = []
    for row in table.rows:
        parts = list(_parts(str(row.fields.get(name) or ""), tokenizer, room))
        if len(parts) < 2:
            rows.append(row)
            continue
        for place, text in enumerate(parts):
            fields = {**row.fields, name: text, CONTINUES: place + 1 < len(parts)}
            rows.append(replace(row, id=f"{row.id}/{place + 1}", fields=fields))
        message = Message("the text is longer than the window and was cut into {n} rows", n=len(parts))
        problems.append(Problem("cut_rows", str(row.source), message, "warning", row.id))
    return table.with_rows(rows), problems


def _parts(text: str, tokenizer: Tokenizer, room: int) -> Iterator[str]:
    """The text in parts of at most ``room`` tokens, which begin where a token begins."""
    offsets = _offsets(text, tokenizer)
    start = 0
    for place in range(room, len(offsets), room):
        # A part that is tokenised by itself may have a token more at its seams.
        cut = offsets[place]
        if cut > start:
            yield text[start:cut]
            start = cut
    if start < len(text):
        yield text[start:]


def _offsets(text: str, tokenizer: Tokenizer) -> list[int]:
    """Where each token begins in the text."""
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [int(start) for start, _ in found["offset_mapping"]]
    return list(range(len(text)))
