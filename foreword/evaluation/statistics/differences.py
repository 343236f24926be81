"""Paired differences of two systems on the same rows: what is claimed of them, with an interval and a test.

Two systems that answered the same rows are compared row by row, which takes out what the rows have in common.

Letters: N rows, S statistics a row, n resamples. Every function is deterministic for a given seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.intervals import (
    CELLS,
    SAMPLING,
    Interval,
    Method,
    Sampling,
    bootstrap,
    grouped,
    mcnemar_p,
    paired_proportion_interval,
)
from foreword.evaluation.statistics.sufficient_statistics import Array


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
        equivalence: the interval at 1 - 2 alpha (90%). Where it lies inside a margin, two one-sided tests at alpha rule
            out both a gain and a loss of the margin (Schuirmann 1987).
    """

    metric: str
    a: float
    b: float
    estimate: float
    interval: Interval
    p_value: float
    test: str
    rows: int
    equivalence: Interval | None = None

    @property
    def decided(self) -> bool:
        """Whether a difference is shown: the interval leaves out 0, and the test agrees."""
        return 0.0 not in self.interval and self.p_value <= 1 - self.interval.level + 1e-9

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


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
    chunk = max(1, CELLS // len(a))
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
    sampling: Sampling = SAMPLING,
    method: Method = "auto",
) -> Difference:
    """System a minus system b over the same rows, with interval and p-value.

    Args:
        n: resamples of the interval, and permutations of the test.
        method: ``auto`` is Tango's interval for proportions and the paired bootstrap's standard error for every other
            metric; ``bca`` and ``percentile`` force these kinds of the paired bootstrap.

    The p-value is McNemar's mid-p for proportions, approximate randomisation otherwise.
    Raises DataError when there are fewer than two rows (or groups) or their numbers differ.
    """
    if len(a_outputs) != len(b_outputs):
        raise DataError("the two systems answered different rows", expected=len(a_outputs), received=len(b_outputs))
    # Both at once, so that classes and tokenizer are the same for both.
    both = metric.rows([*a_outputs, *b_outputs], [*references, *references])
    a, b = both[: len(references)], both[len(references) :]
    values = float(metric.score(a.sum(axis=0))), float(metric.score(b.sum(axis=0)))
    interval, equal = _paired_intervals(metric, a, b, n, sampling, method)
    if metric.form == "proportion" and sampling.groups is None:
        p_value, test = mcnemar_p(*alone_right(a, b)), "mcnemar-mid-p"
    else:
        swapped = grouped(a, sampling.groups), grouped(b, sampling.groups)
        p_value, test = permutation_p(*swapped, metric.score, n, sampling.seed), "approximate-randomisation"
    return Difference(metric.name, *values, values[0] - values[1], interval, p_value, test, len(references), equal)


def alone_right(a: Array, b: Array) -> tuple[int, int]:
    """On how many rows of proportions ``[N, 2]`` only a, and only b, is right."""
    return int(np.sum(a[:, 0] > b[:, 0])), int(np.sum(a[:, 0] < b[:, 0]))


def _paired_intervals(
    metric: Metric, a: Array, b: Array, n: int, sampling: Sampling, method: Method
) -> list[Interval]:  # fmt: skip
    """The intervals of a minus b at the levels of ``sampling``, from statistics ``[N, S]`` of the same rows."""
    groups, width = sampling.groups, a.shape[1]
    if metric.form == "proportion" and groups is None and method == "auto":
        return [paired_proportion_interval(*alone_right(a, b), len(a), level) for level in sampling.levels]
    a, b = grouped(a, groups), grouped(b, groups)
    intervals = bootstrap(
        np.concatenate([a, b], axis=1),
        lambda sums: metric.score(sums[..., :width]) - metric.score(sums[..., width:]),
        n=n, seed=sampling.seed, levels=sampling.levels, method=method, least=least_range(metric, a, b),
    )  # fmt: skip
    return [_cut(metric, interval, None if groups is None else len(a)) for interval in intervals]


def _cut(metric: Metric, interval: Interval, groups: int | None) -> Interval:
    """The interval of a difference, cut at the largest that there can be."""
    low, high = max(-metric.widest, interval.low), min(metric.widest, interval.high)
    return replace(interval, low=low, high=high, groups=groups)


def least_range(metric: Metric, a: Array, b: Array) -> float:
    """The range of the metric where at most one row of ``[N, S]`` differs, or all differ alike: no variance is seen
    then, and none of N rows differs with probability ``tail`` where a share of ``-log(tail) / N`` does."""
    gap = a - b
    differing = int(np.any(gap != 0, axis=-1).sum())
    alike = differing <= 1 or bool((gap == gap[0]).all())
    return metric.widest if alike and math.isfinite(metric.widest) else 0.0
