"""What the check warned of, for the end of a run and its report: a figure is worth what its rows are worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from foreword.data.quality.check_report import TITLES
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared

_OF_THEIR_OWN = ("missing_class", "near_duplicate_across", "too_long")
# Repeats within a split and rare labels change no figure by themselves; `foreword check` names them.
_QUIET = ("near_duplicate", "duplicate", "imbalance", "long_row")


def data_notes(prepared: Prepared) -> Iterator[str]:
    """A sentence for each kind of warning."""
    rows: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for problem in prepared.report.warnings:
        counts[problem.kind] += 1
        if problem.kind == "near_duplicate_across":
            rows[problem.split].add(problem.row_id)
    for split, ids in rows.items():
        yield Message("{n} rows of {split} have nearly the same text as rows of a later split", n=len(ids), split=split)
    if prepared.task.has_labels:
        for split, balance in prepared.report.balance.items():
            for label in prepared.task.labels:
                if not balance.get(label):
                    yield Message("no row of {split} has the label {label}", split=split, label=repr(label))
    for kind, count in counts.items():
        if kind not in (*_OF_THEIR_OWN, *_QUIET):
            yield Message("the check warns of {what}: {n}", what=TITLES[kind], n=count)
