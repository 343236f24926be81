"""Every problem of the data at once, with its place; on a base also what its tokenizer says of the rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from foreword.data.quality.check import check_tables
from foreword.data.quality.check_report import CheckReport, clean
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.data.tokens.tokenize import label_end_note, lead_ids
from foreword.runs.prepare.encode_splits import encode_splits, refuse_long_k
from foreword.runs.prepare.ready_data import read_splits, shown, task_of
from foreword.settings.schema import SCRATCH, TaskOptions


def check(
    data: object,
    *,
    dev: object = None,
    test: object = None,
    task_options: TaskOptions | None = None,
    base: str | None = None,
    skip_bad: bool = False,
    encoding: str | None = None,
) -> CheckReport:
    """Every problem of the data at once; with ``base`` also the lengths in its tokens.

    Args:
        data: a file, DataFrame, Dataset or list of dicts; ``dev`` and ``test`` likewise.
        task_options: what the task is, as far as it is said.
        base: whose tokens are counted and whose context is the limit; one from scratch has no limit.
        skip_bad: says nothing here; it is the caller who goes on.

    Raises:
        DataError: a file cannot be read at all.

    >>> from foreword import check
    >>> report = check([{"text": "a fine film", "label": "good"}, {"text": "a fine film", "label": "bad"}])
    >>> report.refuses, report.errors[0].kind
    (True, 'conflict')
    """
    options = task_options or TaskOptions()
    tables = read_splits(data, dev, test, options, encoding)
    task = task_of(tables["train"], options)
    refuse_long_k(options.first_k, task, tables["train"])
    report = check_tables(tables, task)
    if base is not None and base not in SCRATCH:
        report = _on_base(base, tables, task, report, options.first_k)
    return replace(report, notes=(*report.notes, *shown(task)))


def _on_base(name: str, tables: dict[str, Table], task: Task, report: CheckReport, first_k: int | None) -> CheckReport:
    """The report with what the base's tokenizer makes of the rows that are left."""
    # Without a base no torch is needed, which takes longer to import than most checks take.
    from foreword.runs.prepare.base import find_base
    from foreword.runs.prepare.compatibility import refuse_task

    base = find_base(name, task_head=task.masked, accept=partial(refuse_task, task))
    special = base.kind != "decoder"
    front = len(lead_ids(task, base.tokenizer, special_tokens=special))
    encoder = Encoder(task, base.tokenizer, special, first_k)
    found = encode_splits(*clean(tables, report), report, encoder, front, base.context).report
    return replace(found, notes=(*found.notes, *label_end_note(task, base.tokenizer)))
