"""Intervals and paired differences for scores of the same rows.

Rows are the unit of chance: a test set is a sample, and another one would have given other figures. Two systems
that answered the same rows are compared row by row, which takes out what the rows have in common. Rows that belong
together (sentences of a document, turns of a speaker, near-duplicates) are no independent draws: with ``groups`` the
group is the unit, and the interval says how many there are.

Letters: N rows, G groups, S statistics a row, n resamples. Every function is deterministic for a given seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.rare_classes import confusion_of, has_rare_class, macro_f1_ends
from foreword.evaluation.statistics.sufficient_statistics import Array

Method = Literal["auto", "wider", "bca", "percentile"]
Groups = Sequence[Hashable]
"""The group of each row, in the order of the rows."""
CELLS = 4_000_000


@dataclass(frozen=True)
class Sampling:
    """What chance is taken to be, and how sure to be of it.

    Args:
        level: of the interval; of a family, 1 minus its error.
        groups: of the rows, where these are not independent: then groups are drawn, swapped and counted.
        seed: of resamples and permutations.
        equal_level: of the interval of two one-sided tests; None: 1 - 2 alpha, 90% for 95%.
    """

    level: float = 0.95
    groups: Groups | None = None
    seed: int = 13
    equal_level: float | None = None

    @property
    def levels(self) -> tuple[float, float]:
        """Of the interval of a difference, and of the one by which systems are judged to be equal."""
        return self.level, max(0.5, 2 * self.level - 1) if self.equal_level is None else self.equal_level


SAMPLING = Sampling()


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Args:
        low, high: in the metric's own unit.
        level: 0.95.
        method: how it was made.
        groups: how many independent rows or groups of rows it rests on; None where every row is one.
    """

    low: float
    high: float
    level: float
    method: str
    groups: int | None = None

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def resamples(rows: int, n: int, seed: int) -> Iterator[Array]:
    """How often each row is drawn, ``[k, N]`` a chunk, n resamples of N rows in all."""
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // rows)
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        drawn = rng.integers(rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _quantile_of(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def grouped(table: Array, groups: Groups | None) -> Array:
    """Statistics ``[..., N, S]`` summed over the rows of each group: ``[..., G, S]``; as they are without groups.

    Raises:
        DataError: another number of groups than of rows.
    """
    if groups is None:
        return table
    if len(groups) != table.shape[-2]:
        raise DataError("each row needs its group", expected=table.shape[-2], received=len(groups))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), *np.moveaxis(table, -2, 0).shape[1:]))
    np.add.at(sums, [numbers[name] for name in groups], np.moveaxis(table, -2, 0))
    return np.moveaxis(sums, 0, -2)


def bootstrap(
    rows: Array, score: Callable[[Array], Array], *, n: int, seed: int, levels: Sequence[float],
    method: Method, least: float = 0.0,
) -> list[Interval]:  # fmt: skip
    """Interval at each of ``levels`` of ``score(sum of rows)``; rows ``[N, S]``.

    ``auto`` is Student's t times the larger of two standard errors, the bootstrap's and the jackknife's: with few rows
    it covers differences better than the others. BCa (Efron 1987) corrects bias and skewness, its acceleration from the
    jackknife; ``percentile`` does not. ``wider`` holds both ``bca`` and the bootstrap's error: the best for one score
    (docs/log.md has the table).

    Args:
        least: the range of the score where the rows hardly differ, so that their variance tells nothing; else 0.
    """
    if len(rows) < 2:
        raise DataError("an interval needs at least two rows", received=len(rows))
    draws = np.concatenate([score(counts @ rows) for counts in resamples(len(rows), n, seed)])
    estimate, without = float(score(rows.sum(axis=0))), score(rows.sum(axis=0) - rows)
    jackknife = (len(rows) - 1) * float(without.var()) if method == "auto" else 0.0
    error = math.sqrt(max(float(draws.var(ddof=1)), jackknife))
    intervals = []
    for level in levels:
        tail = (1 - level) / 2
        _quantile_of(level)
        shares = np.array([tail, 1 - tail])
        if method in ("bca", "wider"):
            shares = _bca_shares(draws, estimate, without, shares)
        low, high = map(float, np.quantile(draws, shares))
        if method in ("auto", "wider"):
            reach = max(error * _student(level, len(rows) - 1), least * -math.log(tail) / len(rows))
            low = estimate - reach if method == "auto" else min(low, estimate - reach)
            high = estimate + reach if method == "auto" else max(high, estimate + reach)
        intervals.append(Interval(low, high, level, "bootstrap" if method == "auto" else f"bootstrap-{method}"))
    return intervals


def _student(level: float, freedom: int) -> float:
    from scipy.special import stdtrit

    _quantile_of(level)
    return float(stdtrit(freedom, 0.5 + level / 2))


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
    rows = metric.rows(outputs, references)
    return bootstrap(rows, metric.score, n=n, seed=seed, levels=(level,), method=method)[0]


def wilson_interval(successes: float, rows: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (1927): right also when every row, or none, is correct."""
    return _wilson(successes / rows, rows, _quantile_of(level), level)


def _wilson(share: float, rows: float, z: float, level: float) -> Interval:
    weight = z * z / rows
    centre = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    # At 0 and at 1 the formula gives the bound itself, but for rounding.
    low = 0.0 if share == 0 else max(0.0, centre - reach)
    high = 1.0 if share == 1 else min(1.0, centre + reach)
    return Interval(low, high, level, "wilson")


def _wilson_of_groups(sums: Array, level: float) -> Interval:
    """Wilson's interval with as many rows as the groups ``[G, 2]`` are worth (Korn & Graubard 1998)."""
    rows, groups = float(sums[:, 1].sum()), len(sums)
    share = float(sums[:, 0].sum()) / rows
    spread = float(np.sum((sums[:, 0] - share * sums[:, 1]) ** 2)) * groups / (groups - 1)
    worth = share * (1 - share) * rows**2 / spread if spread > 0 else groups
    interval = _wilson(share, min(rows, worth), _student(level, groups - 1), level)
    return replace(interval, method="wilson-groups", groups=groups)


def score_interval(
    outputs: Sequence[Any],
    references: Sequence[Any],
    metric: Metric,
    n: int = 2000,
    seed: int = 13,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Interval:
    """The interval that reports show: Wilson's for proportions, the bootstrap for every other metric.

    With proportions the bootstrap is too narrow on small test sets, and has no width when every row is right.

    Args:
        groups: of the rows, where these are not independent.
    """
    rows = metric.rows(outputs, references)
    units = grouped(rows, groups)
    if groups is not None and len(units) < 2:
        raise DataError("an interval needs at least two groups of rows", received=len(units))
    if metric.form == "proportion":
        if groups is None:
            return wilson_interval(float(rows[:, 0].sum()), len(rows), level)
        return _wilson_of_groups(units, level)
    alike = bool((units == units[0]).all()) and math.isfinite(metric.widest)
    (interval,) = bootstrap(
        units, metric.score, n=n, seed=seed, levels=(level,), method="wider", least=metric.widest if alike else 0.0
    )
    if metric.name == "macro_f1" and groups is None:
        interval = with_rare_classes(interval, confusion_of(outputs, references), seed)
    return _within(metric, interval, len(units) if groups is not None else None)


def with_rare_classes(interval: Interval, confusion: Array, seed: int) -> Interval:
    """An interval of macro F1, wide enough for classes of few rows."""
    if not has_rare_class(confusion):
        return interval
    low, high = macro_f1_ends(confusion, interval.level, seed)
    ends = min(interval.low, low), max(interval.high, high)
    return replace(interval, low=ends[0], high=ends[1], method=f"{interval.method}-dirichlet")


def widened(interval: Interval, centre: float, factor: float) -> Interval:
    """The interval with both ends ``factor`` times as far from ``centre``."""
    low, high = centre - factor * (centre - interval.low), centre + factor * (interval.high - centre)
    return replace(interval, low=low, high=high)


def _within(metric: Metric, interval: Interval, groups: int | None) -> Interval:
    """The interval, cut at the ends of the metric's scale."""
    low, high = interval.low, interval.high
    if math.isfinite(metric.widest):
        low, high = max(0.0, low), min(metric.top, high)
    return replace(interval, low=low, high=high, groups=groups)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided mid-p value of McNemar's test from the rows that only a, and that only b, got right.

    Half of the probability of what was seen counts (Fagerland, Lydersen & Laake 2013): the exact test rejects far
    less often than its level allows, this one hardly ever more often.
    """
    total = only_a + only_b
    if only_a == only_b:
        return 1.0
    below = ways = 1
    for k in range(min(only_a, only_b)):
        ways = ways * (total - k) // (k + 1)
        below += ways
    return min(1.0, float((2 * below - ways) / (1 << total)))


def paired_proportion_interval(only_a: int, only_b: int, rows: int, level: float = 0.95) -> Interval:
    """Interval of a difference of paired proportions: Tango's score interval (1998).

    It holds every difference that the score test does not reject, so it goes with McNemar's test. Where only one system
    is ever alone in being right, its far end is not nearer than Clopper and Pearson's exact one: few rows that differ,
    or none, are no proof that hardly any would.
    """
    z = _quantile_of(level)

    def standardised(gap: float) -> float:
        linear = (2 * rows - only_a + only_b) * gap - only_a - only_b
        free = -only_b * gap * (1 - gap)
        lost = (math.sqrt(max(0.0, linear**2 - 8 * rows * free)) - linear) / (4 * rows)
        variance = rows * (2 * lost + gap * (1 - gap))
        return (only_a - only_b - rows * gap) / math.sqrt(max(variance, 1e-12))

    def end(low: float, high: float, target: float) -> float:
        # The standardised difference falls as the assumed one grows.
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if standardised(middle) > target else (low, middle)
        return (low + high) / 2

    seen = (only_a - only_b) / rows
    low, high = end(-1.0, seen, z), end(seen, 1.0, -z)
    if not only_a:
        low = min(low, -_most(only_b, rows, level))
    if not only_b:
        high = max(high, _most(only_a, rows, level))
    return Interval(low, high, level, "tango")


def _most(count: int, rows: int, level: float) -> float:
    """The upper end of Clopper and Pearson's interval (1934) of a proportion."""
    from scipy.special import betaincinv

    return 1.0 if count >= rows else float(betaincinv(count + 1, rows - count, 0.5 + level / 2))
