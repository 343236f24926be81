"""The paired difference of systems that were each trained with several seeds: rows and seeds both are chance.

The variance of a difference of means over seeds has three parts: rows (another test set), seeds (another training), and
what seeds do to single rows. The last is seen twice: a bootstrap over rows holds it, and so does the variance between
the seeds' scores. It is measured by the residuals of rows by seeds and taken off the seeds' part once.

A few seeds tell little about their own variance, so the reach of an interval is no plain Student's t. Satterthwaite's
degrees of freedom, which are usual here, are estimated from the same few seeds: where seeds matter most, three of them
gave intervals at 95% that held the truth in 87% to 92% of simulated families. Instead, each part brings its own
quantile, weighted by its standard error (Cochran 1951 weights by the variance), see ``bench/verdict.py``.

Letters: K runs (seeds) of a system, N rows, S statistics a row; a leading ``...`` may be any number of families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.intervals import Difference, Interval, resamples, score_interval, wilson_interval
from foreword.evaluation.statistics.sufficient_statistics import Array

TEST = "rows-and-seeds-t"
# Rows that are added to each side of a difference of proportions, as Bonett and Price add one: without them, few rows
# on which two systems differ make an interval too narrow, and none make one without width. Half a row does.
_PSEUDO = 0.1
_WIDE = 0.65


@dataclass(frozen=True)
class Spread:
    """A difference and where its chance comes from; every field has the shape ``[...]`` of the families.

    Args:
        centre: the middle of its interval.
        rows: its variance due to rows.
        freedom: degrees of freedom of ``rows``.
        seeds: for each system with several runs, the variance due to seeds and its degrees of freedom.
        few: 1 over the number of rows where these hardly differ, so that their variance tells nothing; else 0.
    """

    centre: Array
    rows: Array
    freedom: float
    seeds: tuple[tuple[Array, int], ...] = ()
    few: Array | float = 0.0

    def reach(self, level: float) -> Array:
        """Half the width of the interval at ``level``."""
        from scipy.special import stdtrit

        errors = [(np.sqrt(part), freedom) for part, freedom in ((self.rows, self.freedom), *self.seeds)]
        total = np.sqrt(sum(error**2 for error, _ in errors))
        weighed = sum(error * stdtrit(freedom, 0.5 + level / 2) for error, freedom in errors)
        whole = sum(error for error, _ in errors)
        found = total * np.divide(weighed, whole, out=np.zeros_like(total), where=whole > 0)
        # None of N rows differs with probability (1 - level) / 2 where a share of -log((1 - level) / 2) / N does.
        return np.asarray(np.maximum(found, self.few * -np.log((1 - np.asarray(level)) / 2)))

    def p_value(self) -> Array:
        """Two-sided: 1 minus the level at which the interval just reaches 0."""
        low, high = np.zeros_like(self.centre), np.ones_like(self.centre)
        for _ in range(50):
            middle = (low + high) / 2
            inside = self.reach_at(middle) < np.abs(self.centre)
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return np.where(self.centre == 0, 1.0, 1 - low)

    def reach_at(self, levels: Array) -> Array:
        """:meth:`reach` at another level for each family."""
        return self.reach(levels)  # type: ignore[arg-type]  # the quantiles broadcast

    def detectable(self, level: float, power: float = 0.8) -> Array:
        """The true difference that is told from 0 at ``level`` with the given power.

        The seeds of the next run may lie further apart than these: the interval is taken as wide as it is in ``_WIDE``
        of all runs, not as it is on average.
        """
        from scipy.special import chdtri

        wide = tuple((part * chdtri(freedom, 1 - _WIDE) / freedom, freedom) for part, freedom in self.seeds)
        return replace(self, seeds=wide).reach(level) + self.reach(2 * power - 1)

    def with_rows(self, factor: float) -> Spread:
        """The same with ``factor`` times as many rows."""
        freedom = max(1.0, (self.freedom + 1) * factor - 1)
        return replace(self, rows=self.rows / factor, freedom=freedom, few=self.few / factor)


def spread_of_means(a: Array, b: Array, *, proportions: bool) -> Spread:
    """Of the difference between means over runs and rows of one figure a row.

    Args:
        a: ``[..., Ka, N]``.
        b: ``[..., Kb, N]``, the same rows.
        proportions: every figure is 0 or 1.
    """
    rows = a.shape[-1]
    gap = a.mean(axis=-2) - b.mean(axis=-2)
    more = _PSEUDO if proportions else 0.0
    # Two kinds of added rows, one at +1 and one at -1: they change the squares and not the sum.
    count = rows + 2 * more
    centre = gap.sum(axis=-1) / count
    variance = ((gap**2).sum(axis=-1) + 2 * more) / count - centre**2
    between = variance / (count if proportions else max(1, rows - 1))
    few = np.where(np.abs(gap).sum(axis=-1) <= 1, 1 / rows, 0.0) if proportions else 0.0
    seeds = tuple(s for x in (a, b) for s in _seeds(x.mean(-1), x))
    return Spread(centre, np.maximum(between, np.maximum(_least(a, b), _least(b, a))), rows - 1, seeds, few)


def _least(a: Array, b: Array) -> Array:
    """The variance due to rows if a's runs had nothing in common on a row: it is not less. Runs that happen to err on
    each other's rows, such as one that always says yes and one that always says no, look as if they were sure."""
    runs, rows = a.shape[-2:]
    each = (a - b.mean(axis=-2, keepdims=True)).var(axis=-1)
    return np.asarray(each.mean(axis=-1) / (runs * rows) if runs > 1 else np.zeros(each.shape[:-1]))


def _seeds(scores: Array, influence: Array) -> list[tuple[Array, int]]:
    """The variance that seeds bring to a mean over runs, without what they do to single rows.

    Args:
        scores: ``[..., K]``.
        influence: what each row adds to each run's score, times N: ``[..., K, N]``.
    """
    runs, rows = influence.shape[-2:]
    if runs < 2:
        return []
    centred = influence - influence.mean(axis=-1, keepdims=True)
    residual = centred - centred.mean(axis=-2, keepdims=True)
    interaction = (residual**2).sum(axis=(-1, -2)) / ((runs - 1) * (rows - 1) * rows)
    return [(np.maximum(0.0, scores.var(axis=-1, ddof=1) - interaction) / runs, runs - 1)]


def spread_of_scores(table: Array, split: int, score: Callable[[Array], Array], n: int, seed: int) -> Spread:
    """Of the difference of mean scores that are no mean over rows (F1, BLEU): paired bootstrap over rows, jackknife for
    what a row adds.

    Args:
        table: statistics ``[Ka + Kb, N, S]``, a's runs first.
        split: Ka; all runs: the score itself, of no difference.
        score: sums ``[..., S]`` -> scores ``[...]``.
    """

    def gap(scores: Array) -> Array:
        other = scores[split:].mean(axis=0) if split < len(scores) else 0.0
        return np.asarray(scores[:split].mean(axis=0) - other)

    draws = [gap(np.stack([score(counts @ rows) for rows in table])) for counts in resamples(table.shape[1], n, seed)]
    totals = table.sum(axis=1)
    scores, rows = score(totals), table.shape[1]
    without = np.stack([score(total - run) for total, run in zip(totals, table, strict=True)])
    influence = (rows - 1) * (without.mean(axis=1, keepdims=True) - without)
    variance = np.asarray(np.concatenate(draws).var(ddof=1))
    parts = [(scores[:split], influence[:split]), (scores[split:], influence[split:])]
    return Spread(
        gap(scores), variance, rows - 1, tuple(s for of, by in parts if len(of) for s in _seeds(of, by)),
    )  # fmt: skip


def runs_table(
    metric: Metric, a_runs: Sequence[Sequence[Any]], b_runs: Sequence[Sequence[Any]], references: Sequence[Any]
) -> Array:
    """Statistics ``[Ka + Kb, N, S]`` of all runs, with one set of classes and one tokenizer for all.

    Raises:
        DataError: a run has other rows, or there are fewer than two rows.
    """
    runs = [*a_runs, *b_runs]
    if not a_runs or not b_runs or any(len(run) != len(references) for run in runs):
        raise DataError("the runs answered different rows", expected=len(references), received=[len(r) for r in runs])
    if len(references) < 2:
        raise DataError("an interval needs at least two rows", received=len(references))
    flat = metric.rows([output for run in runs for output in run], [*references] * len(runs))
    return flat.reshape(len(runs), len(references), -1)


def spread_of_runs(metric: Metric, table: Array, split: int, n: int, seed: int) -> Spread:
    """The spread of a's mean minus b's, for any metric that has one; ``table`` is that of :func:`runs_table`."""
    if metric.form == "corpus":
        return spread_of_scores(table, split, metric.score, n, seed)
    return spread_of_means(table[:split, :, 0], table[split:, :, 0], proportions=metric.form == "proportion")


def paired_difference_of_runs(
    metric: Metric,
    a_runs: Sequence[Sequence[Any]],
    b_runs: Sequence[Sequence[Any]],
    references: Sequence[Any],
    n: int = 2000,
    seed: int = 13,
    level: float = 0.95,
) -> Difference:
    """Mean of a's runs minus mean of b's runs, with rows and seeds as chance.

    Args:
        a_runs, b_runs: outputs of each seed, all for the same rows; one run for a system without seeds.

    Raises DataError when a run has other rows or there are fewer than two rows.
    """
    table = runs_table(metric, a_runs, b_runs, references)
    return difference_of(metric, table, len(a_runs), n, seed, level)[0]


def difference_of(
    metric: Metric, table: Array, split: int, n: int, seed: int, level: float
) -> tuple[Difference, Spread]:
    """The difference in a :func:`runs_table` with its spread."""
    spread = spread_of_runs(metric, table, split, n, seed)
    scores = metric.score(table.sum(axis=1))
    a, b = float(scores[:split].mean()), float(scores[split:].mean())
    centre, reach = float(spread.centre), float(spread.reach(level))
    # The figure itself is always inside, also where a little more on each side has moved the middle. Two seeds tell
    # next to nothing of their own variance: the reach may go beyond what a difference can be.
    low, high = max(-metric.widest, min(centre - reach, a - b)), min(metric.widest, max(centre + reach, a - b))
    interval = Interval(low, high, level, TEST)
    return Difference(metric.name, a, b, a - b, interval, float(spread.p_value()), TEST, table.shape[1]), spread


def score_of_runs(
    metric: Metric, runs: Sequence[Sequence[Any]], references: Sequence[Any], n: int = 2000, level: float = 0.95
) -> tuple[float, Interval]:
    """The mean score of one system's runs with its interval over rows and seeds; a single run has that of reports."""
    if len(runs) == 1:
        value = metric.corpus(runs[0], references)
        return value, score_interval(runs[0], references, metric, n, 13, level)
    table = runs_table(metric, runs[:1], runs[1:], references)
    spread = spread_of_scores(table, len(table), metric.score, n, 13)
    value, reach = float(metric.score(table.sum(axis=1)).mean()), float(spread.reach(level))
    low, high = value - reach, value + reach
    if metric.form == "proportion":
        # Not narrower than runs that have nothing in common on a row make it.
        apart = wilson_interval(value * table.shape[0] * table.shape[1], table.shape[0] * table.shape[1], level)
        low, high = min(low, apart.low), max(high, apart.high)
    if metric.top == 1 and metric.name != "perplexity":
        low, high = max(0.0, low), min(1.0, high)
    return value, Interval(low, high, level, TEST)
