"""Macro F1 where some class has few rows: what these rows leave open of it.

A class of three rows moves a macro F1 of three classes by a third of what happens to be said of three rows, and a
resample often does not draw it at all: bootstraps of every kind then cover 50 to 90%. Here the shares of the classes,
and of the answers to each, are drawn from their posterior (Dirichlet, with half a row beforehand for the class and half
a row for its being right or wrong), which leaves a class of few rows nearly everything. The interval of a report is the
wider of both ends: 93 to 99% in simulations with two to ten classes and 30 to 300 rows
(``bench/simulated_studies.py``). A class that no test row has is in no interval.

Letters: C classes, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foreword.evaluation.statistics.sufficient_statistics import Array, alternatives, ratio

RARE = 10
"""Rows of the rarest class below which its posterior counts."""
_BEFOREHAND, _DRAWS, _CELLS = 0.5, 2000, 4_000_000


def confusion_of(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    """How often each gold class ``[C]`` got each answer ``[C]``; all classes that occur, sorted."""
    golds = [alternatives(reference)[0] for reference in references]
    classes = {name: index for index, name in enumerate(sorted({*golds, *outputs}))}
    matrix = np.zeros((len(classes), len(classes)))
    np.add.at(matrix, ([classes[gold] for gold in golds], [classes[output] for output in outputs]), 1)
    return matrix


def has_rare_class(confusion: Array) -> bool:
    """Whether some class of several has so few gold rows that resamples say little of it."""
    return len(confusion) > 1 and bool(confusion.sum(axis=1).min() < RARE)


def macro_f1_ends(confusion: Array, level: float, seed: int) -> tuple[float, float]:
    """The ends of the posterior's interval of macro F1.

    Args:
        confusion: ``[C, C]``, gold by answer; a mean over runs may have parts of rows.
    """
    classes = len(confusion)
    rng, draws = np.random.default_rng(seed), max(200, min(_DRAWS, _CELLS // classes**2))
    beforehand = np.full((classes, classes), _BEFOREHAND / max(1, classes - 1))
    np.fill_diagonal(beforehand, _BEFOREHAND)
    answers = rng.standard_gamma(confusion + beforehand, size=(draws, classes, classes))
    shares = rng.standard_gamma(confusion.sum(axis=1) + _BEFOREHAND, size=(draws, classes))
    joint = answers / answers.sum(axis=-1, keepdims=True) * shares[:, :, None]
    hits = np.diagonal(joint, axis1=1, axis2=2)
    f1 = ratio(2 * hits, joint.sum(axis=1) + joint.sum(axis=2))
    low, high = np.quantile(f1.mean(axis=-1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
