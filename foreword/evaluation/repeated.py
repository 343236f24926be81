"""The paired difference of two systems that were each trained with several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics import Metric
from foreword.evaluation.statistics import Difference, Interval, resamples
from foreword.evaluation.sums import Array


def paired_difference_of_runs(
    metric: Metric,
    a_runs: Sequence[Sequence[Any]],
    b_runs: Sequence[Sequence[Any]],
    references: Sequence[Any],
    n: int = 2000,
    seed: int = 13,
    level: float = 0.95,
) -> Difference:
    """Mean of a's runs minus mean of b's runs: rows and seeds both are chance.

    Args:
        a_runs, b_runs: outputs of each seed, all for the same rows; one run for a system without seeds.

    The variance is that of a paired bootstrap over rows plus that between the seeds of each system over their
    number; the interval is Student's t with Welch and Satterthwaite's degrees of freedom. What rows and seeds do
    together is counted in both parts, so the interval is a little wide rather than narrow.
    Raises DataError when a run has other rows or there are fewer than two rows.
    """
    runs = [*a_runs, *b_runs]
    if not a_runs or not b_runs or any(len(run) != len(references) for run in runs):
        raise DataError("the runs answered different rows", expected=len(references), received=[len(r) for r in runs])
    if len(references) < 2:
        raise DataError("an interval needs at least two rows", received=len(references))
    flat = metric.rows([output for run in runs for output in run], [*references] * len(runs))
    table = flat.reshape(len(runs), len(references), -1)
    split = len(a_runs)
    scores = metric.score(table.sum(axis=1))
    a, b = float(scores[:split].mean()), float(scores[split:].mean())
    parts = [(_row_variance(table, split, metric.score, n, seed), len(references) - 1)]
    parts += [(float(s.var(ddof=1)) / len(s), len(s) - 1) for s in (scores[:split], scores[split:]) if len(s) > 1]
    interval, p_value = _student(a - b, parts, level)
    return Difference(metric.name, a, b, a - b, interval, p_value, "rows-and-seeds-t", len(references))


def _row_variance(table: Array, split: int, score: Callable[[Array], Array], n: int, seed: int) -> float:
    """Bootstrap variance over rows of the difference of mean scores; table is ``[runs, N, S]``."""
    draws = []
    for counts in resamples(table.shape[1], n, seed):
        scores = np.stack([score(counts @ rows) for rows in table])
        draws.append(scores[:split].mean(axis=0) - scores[split:].mean(axis=0))
    return float(np.concatenate(draws).var(ddof=1))


def _student(estimate: float, parts: Sequence[tuple[float, int]], level: float) -> tuple[Interval, float]:
    """Interval and two-sided p-value for an estimate whose variance is a sum of (variance, degrees of freedom)."""
    from scipy.special import stdtr, stdtrit

    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(estimate, estimate, level, "rows-and-seeds-t"), 1.0 if estimate == 0 else 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(variance)
    reach = float(stdtrit(freedom, 0.5 + level / 2)) * error
    p_value = 2 * float(stdtr(freedom, -abs(estimate) / error))
    return Interval(estimate - reach, estimate + reach, level, "rows-and-seeds-t"), p_value
