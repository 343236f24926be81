"""How far runs of a method lie apart: what its few seeds tell, pooled over methods, under a weakly informative prior.

Two or three seeds that happen to agree are no proof that seeds do not matter, and two that happen to differ are no
measurement of by how much. So the standard deviation between runs is not estimated by itself. What is known beforehand
(runs of small fine-tunings differ by a point or two, sometimes by far more) is a half-Cauchy prior (Gelman 2006), and
the runs of every method of a comparison are one sample for it: a small hierarchical model. Its posterior lives on a
grid.

Runs are neither normal nor equally far apart from method to method, so each counts half (a tempered likelihood). Near
the top of a metric runs are skewed: most agree just below it and one falls far, so three that agree there say little.
A standard deviation is judged by how much the variance of K runs would itself vary if their levels were Beta
distributed with it (its excess kurtosis, of which a tenth counts: with all of it, agreement above 95% would say nothing
at all), and one that no share could have is left out. ``bench/verdict.py`` measures what that keeps: false claims stay
at 5% where runs of all methods differ by 3 points, and below 8% where those of one method alone do.

Letters: K runs (seeds) of a system, N rows, G points of the grid; a leading ``...`` may be any number of families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.sufficient_statistics import Array

PRIOR_SCALE, _PRIOR_FREEDOM, _TEMPER, _SKEWED = 0.02, 1.0, 0.5, 0.1
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


@dataclass(frozen=True)
class Prior:
    """What is known beforehand of how far runs lie apart.

    Args:
        scale: of the half-Cauchy, in the unit of the metric.
        share: the systems' level as a share of the metric's range, ``[...]`` inside 0 and 1; None: not known, or the
            metric has no top.
    """

    scale: float = PRIOR_SCALE
    share: Array | None = None

    @property
    def deviations(self) -> Array:
        """The standard deviations that are considered, ``[G]``."""
        return self.scale * GRID


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


def prior_of(metric: Metric, level: Array | float, rows: int) -> Prior:
    """Two points of the metric's range, at ``level``; two percent of ``level`` where it has no top."""
    if not np.isfinite(metric.widest):
        return Prior(PRIOR_SCALE * max(1.0, abs(float(level))))
    return Prior(PRIOR_SCALE * metric.widest, inside(np.asarray(level) / metric.widest, rows))


def inside(share: Array, rows: int) -> Array:
    """Shares not nearer to 0 and 1 than half a row of ``rows``."""
    return np.asarray(np.clip(share, 0.5 / rows, 1 - 0.5 / rows))


def posterior(seen: Sequence[RunVariance], prior: Prior) -> Array:
    """Weights ``[..., G]`` of the standard deviations ``prior.deviations`` between runs; the prior's own where none
    are seen."""
    variance, scale = prior.deviations**2, prior.scale
    relative = (GRID * PRIOR_SCALE) ** 2
    total, heavy = np.asarray(_LOG_PRIOR), np.zeros_like(GRID)
    if prior.share is not None:
        share = np.asarray(prior.share)[..., None]
        total = np.where(relative <= share * (1 - share) / 2, total, -np.inf)
        heavy = _SKEWED * _excess_kurtosis(share, relative)
    for runs in seen:
        noise = np.maximum(np.asarray(runs.rows)[..., None], 1e-4 * scale**2)
        expected, square = variance + noise, np.asarray(runs.scores)[..., None]
        total = total + _TEMPER * _log_density(
            square, expected, heavy * (variance / expected) ** 2, runs.freedom, noise
        )
    weights = np.exp(total - total.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _log_density(square: Array, expected: Array, heavy: Array, freedom: int, noise: Array) -> Array:
    """Of a variance ``square`` of ``freedom + 1`` runs: a gamma distribution with the mean ``expected`` and the spread
    that the variance of runs with excess kurtosis ``heavy`` has; chi-squared where there is none."""
    from scipy.special import gammaln

    shape = 1 / (heavy / (freedom + 1) + 2 / freedom)
    least = np.log(np.maximum(square, 0.1 * noise))
    return np.asarray(
        shape * np.log(shape) - gammaln(shape) - shape * np.log(expected) + (shape - 1) * least
        - shape * square / expected
    )  # fmt: skip


def _excess_kurtosis(share: Array, variance: Array) -> Array:
    """Of a Beta distribution with the mean ``share`` and a ``variance`` (as far as there is one), at least 0."""
    most = share * (1 - share)
    size = most / np.minimum(variance, 0.5 * most) - 1
    a, b = share * size, (1 - share) * size
    whole = a * b * (size + 2)
    return np.asarray(np.maximum(0.0, 6 * ((a - b) ** 2 * (size + 1) - whole) / (whole * (size + 3))))
