"""Metrics of rows with several labels: what was said and what is right are sets, each written as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foreword.data.task.label_sets import labels_in
from foreword.errors import DataError
from foreword.evaluation.statistics.sufficient_statistics import (
    MAX_CELLS,
    Array,
    SumStatistic,
    alternatives,
    macro,
    mean_of,
    ratio,
)


def _pairs(outputs: Sequence[Any], references: Sequence[Any]) -> list[tuple[frozenset[str], frozenset[str]]]:
    return [
        (frozenset(labels_in(output)), frozenset(labels_in(alternatives(reference)[0])))
        for output, reference in zip(outputs, references, strict=True)
    ]


def _rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    """Hits, said and gold of every label ``[N, 3 C]``."""
    pairs = _pairs(outputs, references)
    labels = {
        name: place for place, name in enumerate(sorted({label for pair in pairs for one in pair for label in one}))
    }
    if len(pairs) * len(labels) > MAX_CELLS:
        raise DataError("too many different labels for an F1 over labels", received=len(labels))
    table = np.zeros((len(pairs), max(1, len(labels)), 3))
    for row, (said, gold) in enumerate(pairs):
        for column, members in enumerate((said & gold, said, gold)):
            table[row, [labels[label] for label in members], column] = 1
    return table.reshape(len(pairs), -1)


def _micro(sums: Array) -> Array:
    hit, said, gold = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3).sum(axis=-2), -1, 0)
    return ratio(2 * hit, said + gold)


def _same(output: str, references: list[str]) -> float:
    return float(set(labels_in(output)) == set(labels_in(references[0])))


LABELS_MICRO_F1 = SumStatistic(_rows, _micro)
"""F1 over all pairs of row and label, as scikit-learn's ``average="micro"``; S = 3 C: hits, said, gold."""
LABELS_MACRO_F1 = SumStatistic(_rows, macro)
"""F1 averaged over the labels that occur among outputs or references."""
LABELS_EXACT = mean_of(_same)
"""The share of rows whose labels are all right and none too many."""


def label_report(outputs: Sequence[str], golds: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Precision, recall, F1 and support of every label; there is no confusion matrix where a row has several.

    Returns ``{"labels": [..], "classes": {label: {precision, recall, f1, support}}}``.
    """
    pairs = _pairs(outputs, golds)
    names = list(dict.fromkeys([*labels, *sorted({label for pair in pairs for one in pair for label in one})]))
    classes = {}
    for name in names:
        hit = sum(name in said and name in gold for said, gold in pairs)
        said_by, support = sum(name in said for said, _ in pairs), sum(name in gold for _, gold in pairs)
        classes[name] = {
            "precision": hit / said_by if said_by else 0.0,
            "recall": hit / support if support else 0.0,
            "f1": 2 * hit / (said_by + support) if said_by + support else 0.0,
            "support": support,
        }
    return {"labels": names, "classes": classes}
