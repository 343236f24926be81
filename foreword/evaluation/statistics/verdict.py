"""Several systems, several seeds, one test set: which differences can be claimed.

Every comparison of a family is paired by row, with seeds as chance where a system has several. Holm's procedure
corrects the p-values; the intervals hold together (each at 1 - alpha / m). A difference is claimed when both say so:
the corrected p-value is at most alpha, and the interval leaves out 0. An interval whose test does not reject is widened
to 0, so that a reader of the interval alone is never told more than the decision. Because the intervals hold together,
it does no harm to look at all of them and talk about the one that stands out.

``bench/verdict.py`` simulates what this promises: family error, power at the stated size, coverage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foreword.evaluation.metrics.metric_registry import Metric, get_metric
from foreword.evaluation.statistics.differences import Difference, alone_right, paired_difference
from foreword.evaluation.statistics.intervals import SAMPLING, Interval, Sampling
from foreword.evaluation.statistics.power import holm
from foreword.evaluation.statistics.repeated_seeds import Spread, difference_of, runs_table, spread_of_runs
from foreword.evaluation.statistics.run_spread import Prior, RunVariance, prior_of
from foreword.evaluation.statistics.sufficient_statistics import Array

POWER = 0.8
MAX_ROWS = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """System ``a`` minus system ``b`` among several comparisons.

    Args:
        a, b: names of the systems.
        difference: with the simultaneous interval, coherent with the decision, and the uncorrected p-value.
        corrected: Holm's p-value.
        comparisons: m, how many comparisons the family has.
        seeds: runs of a and of b.
        detectable: the true difference that these rows and seeds show with 80% power, in the metric's unit.
        rows_needed: rows that would show a difference of the margin with 80% power; None where no number of rows would,
            because the seeds differ too much.
        tested: how many of the m could show anything on these rows, which is what is corrected for; None: all.
    """

    a: str
    b: str
    difference: Difference
    corrected: float
    comparisons: int
    seeds: tuple[int, int]
    detectable: float
    rows_needed: int | None
    tested: int | None = None

    @property
    def corrected_for(self) -> int:
        """How many comparisons share the error."""
        return self.comparisons if self.tested is None else self.tested

    @property
    def gain(self) -> float:
        """How much better a is, whichever direction of the metric is better."""
        return self.difference.estimate * _sign(self.difference.metric)

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval of :attr:`gain`."""
        return self._of_gain(self.difference.interval)

    @property
    def equal_bounds(self) -> tuple[float, float]:
        """The interval of :attr:`gain` by which systems are judged to be equal."""
        return self._of_gain(self.difference.equivalence or self.difference.interval)

    def _of_gain(self, interval: Interval) -> tuple[float, float]:
        if _sign(self.difference.metric) > 0:
            return interval.low, interval.high
        return -interval.high, -interval.low

    @property
    def claim(self) -> str:
        """What a difference is one of: ``"run"``, these two trained files (or prompts) on rows like these, or
        ``"method"``: with several seeds it holds for other trainings as well."""
        return "run" if max(self.seeds) == 1 else "method"

    @property
    def better(self) -> bool:
        """Whether a beats b."""
        return self.bounds[0] > 0

    @property
    def worse(self) -> bool:
        """Whether b beats a."""
        return self.bounds[1] < 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        figures = self.difference.to_json()
        values = {"a_value": figures.pop("a"), "b_value": figures.pop("b")}
        return {
            "a": self.a,
            "b": self.b,
            **values,
            **figures,
            "p_corrected": self.corrected,
            "comparisons": self.comparisons,
            "tested": self.corrected_for,
            "seeds": list(self.seeds),
            "claim": self.claim,
            "decision": "better" if self.better else "worse" if self.worse else "open",
            "detectable": self.detectable,
            "rows_needed": self.rows_needed,
        }


def _sign(metric: str) -> int:
    return 1 if get_metric(metric).better == "higher" else -1


def default_margin(metric: Metric) -> float:
    """The difference below which two systems count as equally good: one point."""
    return 0.01 if metric.top == 1 and metric.name != "perplexity" else 1.0


def compare_family(
    metric: Metric,
    outputs: Mapping[str, Sequence[Sequence[Any]]],
    pairs: Sequence[tuple[str, str]],
    references: Sequence[Any],
    *,
    sampling: Sampling = SAMPLING,
    margin: float | None = None,
    n: int = 4000,
) -> list[Comparison]:
    """Every pair (a, b) of a family, corrected together.

    Args:
        outputs: system -> its runs, each the outputs of all rows in the order of ``references``.
        pairs: which systems to compare.
        sampling: its level is 1 minus the error of the family.
        margin: what counts as a difference at all, in the metric's unit; default: one point.
        n: resamples.

    Raises:
        DataError: runs with different rows, or fewer than two rows or groups.
    """
    tables = [runs_table(metric, outputs[a], outputs[b], references) for a, b in pairs]
    counts = [(len(outputs[a]), len(outputs[b])) for a, b in pairs]
    alpha, tested = 1 - sampling.level, _tested(metric, tables, counts, sampling)
    # Equality is claimed of the one pair that dev chose, so it is not corrected.
    each = replace(sampling, level=1 - alpha / tested, equal_level=sampling.levels[1])
    spreads = _spreads(metric, pairs, counts, tables, each, n)
    differences = [
        difference_of(metric, table, count[0], spread, each)
        if max(count) > 1
        else paired_difference(metric, outputs[a][0], outputs[b][0], references, n, each)
        for (a, b), table, count, spread in zip(pairs, tables, counts, spreads, strict=True)
    ]
    # What can reject nothing takes no share of the error, so the others' p-values are multiplied by fewer.
    p_values = [difference.p_value for difference in differences]
    corrected = [min(by_holm, tested * p) for by_holm, p in zip(holm(p_values), p_values, strict=True)]
    wanted = default_margin(metric) if margin is None else margin
    comparisons = []
    for index, ((a, b), difference, spread, seeds) in enumerate(zip(pairs, differences, spreads, counts, strict=True)):
        coherent = replace(difference, interval=_coherent(difference.interval, corrected[index] <= alpha))
        step = _step(metric, seeds, len(references))
        detectable = min(float(spread.detectable(each.level, POWER)) + step, metric.widest)
        needed = _rows_needed(spread, wanted, each.level, len(references), step > 0)
        comparisons.append(Comparison(a, b, coherent, corrected[index], len(pairs), seeds, detectable, needed, tested))
    return comparisons


def _tested(
    metric: Metric, tables: Sequence[Array], counts: Sequence[tuple[int, int]], sampling: Sampling
) -> int:  # fmt: skip
    """How many comparisons share the error (Tarone 1990): systems that differ on n rows have no mid-p value below
    0.5^n, and what cannot be rejected cannot be rejected wrongly."""
    pairs = max(1, len(tables))
    if metric.form != "proportion" or sampling.groups is not None or any(max(count) > 1 for count in counts):
        return pairs
    least = [0.5 ** sum(alone_right(*table)) for table in tables]
    alpha = 1 - sampling.level
    return next((k for k in range(1, pairs) if sum(p <= alpha / k for p in least) <= k), pairs)


def _spreads(
    metric: Metric, pairs: Sequence[tuple[str, str]], counts: Sequence[tuple[int, int]], tables: Sequence[Array],
    sampling: Sampling, n: int,
) -> list[Spread]:  # fmt: skip
    """The spread of each pair's difference from its :func:`runs_table`, pooled over the family."""
    alone = [
        spread_of_runs(metric, table, count[0], n, sampling.seed, sampling.groups)
        for table, count in zip(tables, counts, strict=True)
    ]
    value = float(np.mean([metric.score(table.sum(axis=1)).mean() for table in tables])) if tables else 0.0
    return _pooled(metric, pairs, counts, alone, value, tables[0].shape[1] if tables else 1)


def _pooled(
    metric: Metric,
    pairs: Sequence[tuple[str, str]],
    counts: Sequence[tuple[int, int]],
    spreads: Sequence[Spread],
    value: float,
    rows: int,
) -> list[Spread]:
    """Each spread with what the runs of every system of the family tell of the variance between runs."""
    seen: dict[str, RunVariance] = {}
    for pair, count, spread in zip(pairs, counts, spreads, strict=True):
        several = [name for name, runs in zip(pair, count, strict=True) if runs > 1]
        seen |= dict(zip(several, spread.runs, strict=True))
    prior = prior_of(metric, value, rows)
    return [
        spread.with_runs(list(seen.values()), prior, sum(1 / runs for runs in count if runs > 1))
        for spread, count in zip(spreads, counts, strict=True)
    ]


def _step(metric: Metric, seeds: tuple[int, int], rows: int) -> float:
    """What an exact test costs beyond the normal approximation: one row."""
    return 1 / rows if metric.form == "proportion" and max(seeds) == 1 else 0.0


def _coherent(interval: Interval, rejected: bool) -> Interval:
    if rejected or 0.0 in interval:
        return interval
    return replace(interval, low=min(interval.low, 0.0), high=max(interval.high, 0.0))


def _rows_needed(spread: Spread, wanted: float, level: float, rows: int, exact: bool) -> int | None:
    """The fewest rows at which ``wanted`` can be detected; None above a million."""

    def enough(count: int) -> bool:
        step = 1 / count if exact else 0.0
        return float(spread.with_rows(count / rows).detectable(level, POWER)) + step <= wanted

    if not wanted > 0 or not enough(MAX_ROWS):
        return None
    low, high = 2, MAX_ROWS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def planned_detectable(
    rows: int,
    seeds: tuple[int, int],
    comparisons: int,
    *,
    discordance: float = 0.2,
    deviation: float = 0.01,
    level: float = 0.95,
) -> float:
    """The difference of proportions that a plan can show with 80% power, before anything is computed.

    Args:
        rows: of the test set.
        seeds: runs of each of two systems.
        comparisons: m, that are corrected together.
        discordance: share of rows that exactly one of two systems is assumed to get right.
        deviation: standard deviation of a system's score between seeds that is assumed.
    """
    variance = discordance / rows
    spread = Spread(np.asarray(0.0), np.asarray(variance), math.inf)
    share = sum(1 / runs for runs in seeds if runs > 1)
    if share:
        # What a run does to single rows is about half of what it differs in from another system.
        runs = max(seeds)
        seen = RunVariance(np.asarray(deviation**2 + variance / 2), np.asarray(variance / 2), runs - 1)
        spread = spread.with_runs([seen] * max(1, comparisons), Prior(), share)
    step = 1 / rows if max(seeds) == 1 else 0.0
    return min(1.0, float(spread.detectable(1 - (1 - level) / max(1, comparisons), POWER)) + step)
