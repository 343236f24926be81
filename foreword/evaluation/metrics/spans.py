"""Metrics of tagging: spans by their ends and type, and single tags. A row's tags are one text with spaces between.

Spans are read as CoNLL's scorer and seqeval do: an I-TYPE that goes on with nothing begins a span, so that what a model
says always counts for something; gold tags are checked before, see ``data.tagging``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foreword.data.task.tagging import OUTSIDE
from foreword.errors import DataError
from foreword.evaluation.statistics.sufficient_statistics import Array, SumStatistic, alternatives, ratio

Span = tuple[str, int, int]


def spans(tags: Sequence[str]) -> list[Span]:
    """(type, first, last + 1) of every span; a tag that is no BIO is a type of its own, ended by another."""
    found: list[Span] = []
    kind, start = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, name = tag.partition("-")
        now = "" if tag == OUTSIDE else name if mark in ("B", "I") and name else tag
        if kind and (now != kind or mark == "B"):
            found.append((kind, start, place))
            kind = ""
        if now and not kind:
            kind, start = now, place
    return found


def _pairs(outputs: Sequence[Any], references: Sequence[Any]) -> list[tuple[list[str], list[str]]]:
    """(given, right) tags of every row. Raises DataError where their numbers differ."""
    pairs = [(str(o).split(), alternatives(r)[0].split()) for o, r in zip(outputs, references, strict=True)]
    for row, (given, right) in enumerate(pairs, 1):
        if len(given) != len(right):
            received = f"{len(given)} tags for {len(right)} words"
            raise DataError("a row's answer has another number of tags", where=f"row {row}", received=received)
    return pairs


def _span_rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    table = np.zeros((len(outputs), 3))
    for place, (given, right) in enumerate(_pairs(outputs, references)):
        said, wanted = set(spans(given)), set(spans(right))
        table[place] = [len(said & wanted), len(said), len(wanted)]
    return table


def _tag_rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    pairs = _pairs(outputs, references)
    return np.array(
        [[sum(a == b for a, b in zip(given, right, strict=True)), len(right)] for given, right in pairs],
        dtype=np.float64,
    ).reshape(len(pairs), 2)


def _of_spans(score: Callable[[Array, Array, Array], Array]) -> SumStatistic:
    return SumStatistic(_span_rows, lambda sums: score(sums[..., 0], sums[..., 1], sums[..., 2]))


SPAN_F1 = _of_spans(lambda hit, said, wanted: ratio(2 * hit, said + wanted))
"""Micro F1 over spans, 0 to 1: right where ends and type are; S = 3: hits, said, gold."""
SPAN_PRECISION = _of_spans(lambda hit, said, wanted: ratio(hit, said))
"""The share of the spans said that are right."""
SPAN_RECALL = _of_spans(lambda hit, said, wanted: ratio(hit, wanted))
"""The share of the gold spans that are found."""
TOKEN_ACCURACY = SumStatistic(_tag_rows, lambda sums: ratio(sums[..., 0], sums[..., 1]))
"""The share of words with the right tag, 0 to 1; S = 2: right, words."""


def span_report(outputs: Sequence[str], golds: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support of every type of span.

    Args:
        outputs, golds: tags of each row, as texts.

    Returns ``{"labels": [..], "classes": {type: {precision, recall, f1, support}}}``, types in order of name.
    """
    hit: Counter[str] = Counter()
    said: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for given, right in _pairs(outputs, golds):
        a, b = set(spans(given)), set(spans(right))
        hit.update(kind for kind, *_ in a & b)
        said.update(kind for kind, *_ in a)
        wanted.update(kind for kind, *_ in b)
    names = sorted(said | wanted)
    classes = {
        name: {
            "precision": hit[name] / said[name] if said[name] else 0.0,
            "recall": hit[name] / wanted[name] if wanted[name] else 0.0,
            "f1": 2 * hit[name] / (said[name] + wanted[name]),
            "support": wanted[name],
        }
        for name in names
    }
    return {"labels": names, "classes": classes}


def all_alike(outputs: Sequence[str]) -> bool:
    """Whether every word of every row has the same tag."""
    return len({tag for output in outputs for tag in output.split()}) < 2
