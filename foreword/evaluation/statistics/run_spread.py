"""How far runs of a method lie apart: what its few seeds tell, pooled over methods, under a weakly informative prior.

Two or three seeds that happen to agree are no proof that seeds do not matter, and two that happen to differ are no
measurement of by how much. So the standard deviation between runs is not estimated by itself. What is known beforehand
(runs of small fine-tunings differ by a point or two, sometimes by far more) is a half-Cauchy prior (Gelman 2006), and
the runs of every method of a comparison are one sample for it: a small hierarchical model. Its posterior lives on a
grid.

Runs are neither normal nor equally far apart from method to method, so each counts half (a tempered likelihood).
``bench/verdict.py`` measures what that keeps: with it, false claims stay at 5% also where runs differ by 3 points.

Letters: K runs (seeds) of a system, N rows, G points of the grid; a leading ``...`` may be any number of families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.sufficient_statistics import Array

PRIOR_SCALE, _PRIOR_FREEDOM, _TEMPER = 0.02, 1.0, 0.5
GRID: Array = np.concatenate([[1e-4], np.geomspace(0.05, 10.0, 24)])
"""Standard deviations between runs ``[G]``, as multiples of the prior's scale."""


def _log_prior() -> Array:
    density = (1 + GRID**2 / _PRIOR_FREEDOM) ** (-(_PRIOR_FREEDOM + 1) / 2)
    spacing = np.gradient(GRID)
    spacing[0] = GRID[1] / 2
    return np.asarray(np.log(density * spacing))


_LOG_PRIOR = _log_prior()


@dataclass(frozen=True)
class RunVariance:
    """What the runs of one system show.

    Args:
        scores: the variance of the K runs' scores, ``[...]``.
        rows: the part of it that is what seeds do to single rows, and would go with more rows: ``[...]``.
        freedom: K - 1.
    """

    scores: Array
    rows: Array
    freedom: int


def run_variance(scores: Array, influence: Array, sizes: Array | None = None) -> RunVariance | None:
    """What runs show; None for a single one.

    Args:
        scores: ``[..., K]``.
        influence: what each row (or group of rows) adds to each run's score, ``[..., K, N]``; adds up to the score but
            for a constant.
        sizes: rows in each group, ``[N]``; None: one each.
    """
    runs, units = influence.shape[-2:]
    if runs < 2:
        return None
    share = np.full(units, 1 / units) if sizes is None else sizes / sizes.sum()
    centred = influence - influence.sum(axis=-1, keepdims=True) * share
    residual = centred - centred.mean(axis=-2, keepdims=True)
    of_rows = (residual**2).sum(axis=(-1, -2)) * units / ((runs - 1) * max(1, units - 1))
    return RunVariance(scores.var(axis=-1, ddof=1), of_rows, runs - 1)


def prior_scale(metric: Metric, level: float) -> float:
    """The prior's scale in the unit of the metric: two points, or two percent of ``level`` where it has no top."""
    return PRIOR_SCALE * (metric.widest if np.isfinite(metric.widest) else max(1.0, abs(level)))


def posterior(seen: Sequence[RunVariance], scale: float) -> Array:
    """Weights ``[..., G]`` of the standard deviations ``scale * GRID`` between runs; the prior's own where none were
    seen."""
    variance = (scale * GRID) ** 2
    total = np.asarray(_LOG_PRIOR)
    for runs in seen:
        expected = variance + np.maximum(np.asarray(runs.rows)[..., None], 1e-4 * scale**2)
        square = np.asarray(runs.scores)[..., None]
        total = total - _TEMPER * runs.freedom / 2 * (np.log(expected) + square / expected)
    weights = np.exp(total - total.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
