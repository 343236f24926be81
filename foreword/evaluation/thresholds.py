"""From which probability on a label is said, where a row may have several: chosen on dev, stored with the task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from foreword.data.task.label_sets import joined, labels_in
from foreword.data.task.task import PLAIN_THRESHOLD
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction

_LEAST = 8
"""Rows with a label from which on it has a threshold of its own; with fewer it shares that of all labels."""


def choose_thresholds(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Label -> the probability above which it is said, for the highest F1 on these rows.

    First one threshold for all labels (micro F1); then each label that at least eight rows have gets its own (its own
    F1). Thresholds lie halfway between two probabilities that occurred.

    Args:
        predictions: answers with the labels' log-probabilities in ``scores`` and the right labels in ``gold``.
    """
    labels = [name for name in (predictions[0].scores if predictions else ()) if name not in (GOLD_NLL, GOLD_TOKENS)]
    pairs = {
        label: [(math.exp(one.scores[label]), label in labels_in(one.gold)) for one in predictions] for label in labels
    }
    shared = _best([pair for every in pairs.values() for pair in every])
    return {
        label: _best(every) if sum(right for _, right in every) >= _LEAST else shared for label, every in pairs.items()
    }


def _best(pairs: Sequence[tuple[float, bool]]) -> float:
    """The threshold of the highest F1; of several the one nearest to a half."""
    ordered = sorted(pairs, reverse=True)
    wanted = sum(right for _, right in ordered)
    if not wanted:
        return PLAIN_THRESHOLD
    best, hits = (0.0, 0.0, PLAIN_THRESHOLD), 0
    for said, (share, right) in enumerate(ordered, 1):
        hits += right
        following = ordered[said][0] if said < len(ordered) else 0.0
        if following < share:
            threshold = _between(following, share)
            best = max(best, (2 * hits / (said + wanted), -abs(threshold - PLAIN_THRESHOLD), threshold))
    return best[2]


def _between(low: float, high: float) -> float:
    """A half where that lies between the two, else their middle."""
    return PLAIN_THRESHOLD if low <= PLAIN_THRESHOLD < high else (low + high) / 2


def at_thresholds(predictions: Sequence[Prediction], thresholds: Mapping[str, float]) -> list[Prediction]:
    """The same answers with the labels that are above ``thresholds``."""
    return [
        replace(one, output=joined(name for name, least in thresholds.items() if math.exp(one.scores[name]) > least))
        for one in predictions
    ]
