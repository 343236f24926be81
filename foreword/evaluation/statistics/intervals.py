"""Intervals and paired differences for scores of the same rows.

Rows are the unit of chance: a test set is a sample, and another one would have given other figures. Two systems
that answered the same rows are compared row by row, which takes out what the rows have in common.

Letters: N rows, S statistics a row, n resamples. Every function is deterministic for a given seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.sufficient_statistics import Array

Method = Literal["auto", "bca", "percentile"]
_CELLS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A confidence interval: ``low`` to ``high`` in the metric's own unit, its level (0.95), and how it was made."""

    low: float
    high: float
    level: float
    method: str

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """System a minus system b on the same rows.

    Args:
        metric: the metric's name; ``estimate`` is ``a - b`` in its unit, whichever direction is better.
        a, b: the two scores (means over seeds where there are several).
        interval: of the difference.
        p_value: two-sided, for "no difference".
        test: how the p-value was made.
        rows: N.
    """

    metric: str
    a: float
    b: float
    estimate: float
    interval: Interval
    p_value: float
    test: str
    rows: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return 0.0 not in self.interval

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def resamples(rows: int, n: int, seed: int) -> Iterator[Array]:
    """How often each row is drawn, ``[k, N]`` a chunk, n resamples of N rows in all."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // rows)
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        drawn = rng.integers(rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _quantile_of(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _bootstrap(
    rows: Array, score: Callable[[Array], Array], *, n: int, seed: int, level: float, method: Method
) -> Interval:
    """Interval of ``score(sum of rows)``; rows ``[N, S]``.

    BCa (Efron 1987) corrects bias and skewness, its acceleration from the jackknife; ``percentile`` does not.
    """
    if len(rows) < 2:
        raise DataError("an interval needs at least two rows", received=len(rows))
    draws = np.concatenate([score(counts @ rows) for counts in resamples(len(rows), n, seed)])
    tail = (1 - level) / 2
    _quantile_of(level)
    shares = np.array([tail, 1 - tail])
    name = "bootstrap-percentile"
    if method != "percentile":
        name = "bootstrap-bca"
        shares = _bca_shares(draws, float(score(rows.sum(axis=0))), score(rows.sum(axis=0) - rows), shares)
    low, high = np.quantile(draws, shares)
    return Interval(float(low), float(high), level, name)


def _bca_shares(draws: Array, estimate: float, jackknife: Array, shares: Array) -> Array:
    normal = NormalDist()
    # Scores are discrete: rounding must not decide whether a resample lies below the estimate, and half of the ties do.
    near = 1e-9 * max(1.0, abs(estimate))
    below = float(np.mean(draws < estimate - near) + np.mean(np.abs(draws - estimate) <= near) / 2)
    if not 0 < below < 1:
        return shares
    bias = normal.inv_cdf(below)
    spread = jackknife.mean() - jackknife
    cubes, squares = float(np.sum(spread**3)), float(np.sum(spread**2))
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    moved = []
    for share in shares:
        step = bias + normal.inv_cdf(float(share))
        moved.append(normal.cdf(bias + step / (1 - acceleration * step)))
    return np.array(moved, dtype=np.float64)


def bootstrap_interval(
    outputs: Sequence[Any],
    references: Sequence[Any],
    metric: Metric,
    n: int = 2000,
    seed: int = 13,
    level: float = 0.95,
    method: Method = "bca",
) -> Interval:
    """Bootstrap interval of one system's score over rows. Raises DataError for fewer than two rows."""
    return _bootstrap(metric.rows(outputs, references), metric.score, n=n, seed=seed, level=level, method=method)


def wilson_interval(successes: float, rows: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (1927): right also when every row, or none, is correct."""
    z = _quantile_of(level)
    share, weight = successes / rows, z * z / rows
    centre = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    # At 0 and at 1 the formula gives the bound itself, but for rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == rows else min(1.0, centre + reach)
    return Interval(low, high, level, "wilson")


def score_interval(
    outputs: Sequence[Any],
    references: Sequence[Any],
    metric: Metric,
    n: int = 2000,
    seed: int = 13,
    level: float = 0.95,
) -> Interval:
    """The interval that reports show: Wilson's for proportions, BCa bootstrap for every other metric.

    With proportions the bootstrap is too narrow on small test sets, and has no width when every row is right.
    """
    rows = metric.rows(outputs, references)
    if metric.form == "proportion":
        return wilson_interval(float(rows[:, 0].sum()), len(rows), level)
    return _bootstrap(rows, metric.score, n=n, seed=seed, level=level, method="bca")


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value from the rows that only a, and that only b, got right."""
    total = only_a + only_b
    tail = ways = 1
    for k in range(min(only_a, only_b)):
        ways = ways * (total - k) // (k + 1)
        tail += ways
    return min(1.0, float(2 * tail / (1 << total)))


def paired_proportion_interval(only_a: int, only_b: int, rows: int, level: float = 0.95) -> Interval:
    """Interval of a difference of paired proportions: Bonett and Price (2012), Wald after one row more on each side."""
    z = _quantile_of(level)
    a, b = (only_a + 1) / (rows + 2), (only_b + 1) / (rows + 2)
    reach = z * math.sqrt((a + b - (a - b) ** 2) / (rows + 2))
    return Interval(max(-1.0, a - b - reach), min(1.0, a - b + reach), level, "bonett-price")


def permutation_p(a: Array, b: Array, score: Callable[[Array], Array], n: int = 10_000, seed: int = 13) -> float:
    """Two-sided p-value of approximate randomisation (Noreen 1989): each row's two answers are swapped by a coin.

    Args:
        a, b: statistics ``[N, S]`` of the two systems.
        score: sums ``[..., S]`` -> scores ``[...]``.
        n: permutations; the smallest p-value is 1 / (n + 1).
    """
    rng = np.random.default_rng(seed)
    total_a, total_b, gap = a.sum(axis=0), b.sum(axis=0), b - a
    observed = abs(float(score(total_a) - score(total_b)))
    # Equality up to rounding counts as extreme, or equal swaps would be lost to the order of additions.
    bound = observed - 1e-9 * max(1.0, observed)
    extreme: int = 0
    chunk = max(1, _CELLS // len(a))
    for start in range(0, n, chunk):
        swapped = rng.integers(2, size=(min(chunk, n - start), len(a))).astype(np.float64) @ gap
        extreme += int(np.sum(np.abs(score(total_a + swapped) - score(total_b - swapped)) >= bound))
    return (extreme + 1) / (n + 1)


def paired_difference(
    metric: Metric,
    a_outputs: Sequence[Any],
    b_outputs: Sequence[Any],
    references: Sequence[Any],
    n: int = 10_000,
    seed: int = 13,
    level: float = 0.95,
    method: Method = "auto",
) -> Difference:
    """System a minus system b over the same rows, with interval and p-value.

    Args:
        method: ``auto`` is Bonett and Price's interval for proportions and the paired BCa bootstrap for every
            other metric; ``bca`` and ``percentile`` force the paired bootstrap.

    The p-value is McNemar's exact one for proportions, approximate randomisation otherwise.
    Raises DataError when there are fewer than two rows or their numbers differ.
    """
    if len(a_outputs) != len(b_outputs):
        raise DataError("the two systems answered different rows", expected=len(a_outputs), received=len(b_outputs))
    # Both at once, so that classes and tokenizer are the same for both.
    both = metric.rows([*a_outputs, *b_outputs], [*references, *references])
    a, b = both[: len(references)], both[len(references) :]
    values = float(metric.score(a.sum(axis=0))), float(metric.score(b.sum(axis=0)))
    width = a.shape[1]
    only_a, only_b = int(np.sum(a[:, 0] > b[:, 0])), int(np.sum(a[:, 0] < b[:, 0]))
    if metric.form == "proportion" and method == "auto":
        interval = paired_proportion_interval(only_a, only_b, len(a), level)
    else:
        interval = _bootstrap(
            np.concatenate([a, b], axis=1),
            lambda sums: metric.score(sums[..., :width]) - metric.score(sums[..., width:]),
            n=n, seed=seed, level=level, method=method,
        )  # fmt: skip
    if metric.form == "proportion":
        p_value, test = mcnemar_p(only_a, only_b), "mcnemar-exact"
    else:
        p_value, test = permutation_p(a, b, metric.score, n, seed), "approximate-randomisation"
    return Difference(metric.name, *values, values[0] - values[1], interval, p_value, test, len(a))
