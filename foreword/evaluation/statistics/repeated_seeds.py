"""The paired difference of systems that were each trained with several seeds: rows and seeds both are chance.

The variance of a difference of means over seeds has three parts: rows (another test set), seeds (another training), and
what seeds do to single rows. The last is seen twice: a bootstrap over rows holds it, and so does the variance between
the seeds' scores. It is measured by the residuals of rows by seeds and taken off the seeds' part.

A few seeds tell little about their own variance. It is not plugged in but integrated over what they leave open
(``run_spread``): the interval and the p-value are those of a mixture of normal (or t) distributions, one for each
standard deviation between runs that is still possible, weighted by its posterior.

Letters: K runs (seeds) of a system, N rows, U groups of rows (N where each row is its own), S statistics a row, G
standard deviations; a leading ``...`` may be any number of families.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.statistics.differences import Difference, least_range
from foreword.evaluation.statistics.intervals import (
    SAMPLING,
    Groups,
    Interval,
    Sampling,
    grouped,
    resamples,
    score_interval,
    wilson_interval,
    with_rare_classes,
)
from foreword.evaluation.statistics.rare_classes import confusion_of
from foreword.evaluation.statistics.run_spread import (
    Prior,
    RunVariance,
    inside,
    posterior,
    prior_of,
    run_variance,
)
from foreword.evaluation.statistics.sufficient_statistics import Array

TEST = "rows-and-seeds"
# What is added to the rows on which only one system is right: where one system errs on no row, or on few, these tell
# little of the rows on which it would err.
_PSEUDO = 0.25


@dataclass(frozen=True)
class Spread:
    """A difference and where its chance comes from; fields have the shape ``[...]`` of the families.

    Args:
        centre: the middle of its interval.
        rows: its variance due to rows.
        freedom: degrees of freedom of ``rows``; infinite where the variance is that of the hypothesis.
        seeds: the variances due to seeds that are possible, ``[..., G]``; None without several runs.
        weights: how likely each is, ``[..., G]``.
        few: the range of the metric over the number of rows where these hardly differ, so that their variance tells
            nothing; else 0.
        runs: what the runs of a and of b show.
    """

    centre: Array
    rows: Array
    freedom: float
    seeds: Array | None = None
    weights: Array | None = None
    few: Array | float = 0.0
    runs: tuple[RunVariance, ...] = ()

    def beyond(self, distance: Array) -> Array:
        """The two-sided probability of a larger difference than ``distance`` by chance alone."""
        from scipy.special import ndtr, stdtr

        rows, far = np.asarray(self.rows), np.abs(np.asarray(distance))
        if self.seeds is not None:
            rows, far = rows[..., None] + self.seeds, far[..., None]
        steps = np.divide(far, np.sqrt(rows), out=np.full(np.broadcast(far, rows).shape, np.inf), where=rows > 0)
        tail = 2 * (ndtr(-steps) if math.isinf(self.freedom) else stdtr(self.freedom, -steps))
        if self.weights is not None:
            tail, far = (self.weights * tail).sum(axis=-1), far[..., 0]
        few = np.asarray(self.few)
        # None of N rows differs with probability p / 2 where a share of -log(p / 2) / N does.
        floor = np.exp(-np.divide(far, few, out=np.full(np.broadcast(far, few).shape, np.inf), where=few > 0))
        return np.asarray(np.where(far > 0, np.maximum(tail, np.minimum(1.0, 2 * floor)), 1.0))

    def reach(self, level: float) -> Array:
        """Half the width of the interval at ``level``: no farther is a true difference of none as likely as
        1 - level to be seen."""
        low = np.zeros_like(np.asarray(self.rows, dtype=np.float64))
        high = low + 1.0
        for _ in range(60):
            outside = self.beyond(high) > 1 - level
            if not outside.any():
                break
            high = np.where(outside, 2 * high, high)
        for _ in range(50):
            middle = (low + high) / 2
            inside = self.beyond(middle) > 1 - level
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return high

    def p_value(self) -> Array:
        """Two-sided: 1 minus the level at which the interval just reaches 0."""
        return self.beyond(self.centre)

    def detectable(self, level: float, power: float = 0.8) -> Array:
        """The true difference that is told from 0 at ``level`` with the given power."""
        return self.reach(level) + self.reach(2 * power - 1)

    def with_rows(self, factor: float) -> Spread:
        """The same with ``factor`` times as many rows."""
        freedom = max(1.0, (self.freedom + 1) * factor - 1)
        return replace(self, rows=self.rows / factor, freedom=freedom, few=np.asarray(self.few) / factor)

    def with_runs(self, seen: Sequence[RunVariance], prior: Prior, share: float) -> Spread:
        """The same with what ``seen`` runs tell of the variance between runs.

        Args:
            seen: of every method that is compared.
            prior: what is known beforehand.
            share: 1 / Ka + 1 / Kb, without the systems of one run.
        """
        if share <= 0:
            return self
        weights = posterior(seen, prior)
        return replace(self, seeds=np.broadcast_to(share * prior.deviations**2, weights.shape), weights=weights)


def _share(*runs: int) -> float:
    return sum(1 / count for count in runs if count > 1)


def spread_of_means(
    a: Array, b: Array, *, proportions: bool, sizes: Array | None = None, prior: Prior | None = None
) -> Spread:
    """Of the difference between means over runs and rows of one figure a row.

    Args:
        a: ``[..., Ka, U]``: each row's figure, or the sum of each group's.
        b: ``[..., Kb, U]``, the same rows.
        proportions: every figure is 0 or 1 (or the sum of such ones).
        sizes: rows in each group, ``[U]``; None: one each.
        prior: of the standard deviation between runs; None: that of proportions.
    """
    units = a.shape[-1]
    size = np.ones(units) if sizes is None else sizes
    rows = float(size.sum())
    gap = a.mean(axis=-2) - b.mean(axis=-2)
    centre = gap.sum(axis=-1) / rows
    wald = ((gap - centre[..., None] * size) ** 2).sum(axis=-1) / rows**2
    wald = np.maximum(wald, np.maximum(_least(a, b, size), _least(b, a, size)))
    variance, freedom, few = wald * units / max(1, units - 1), float(units - 1), np.zeros_like(centre)
    if proportions:
        variance = np.maximum(wald, _under_equality(gap) / rows**2)
        freedom = math.inf if sizes is None else freedom
        few = np.where(np.abs(gap).sum(axis=-1) <= 1, 1 / units, 0.0)
    runs = tuple(v for x in (a, b) if (v := run_variance(x.sum(-1) / rows, x / rows, size)) is not None)
    spread = Spread(centre, variance, freedom, few=few, runs=runs)
    if prior is None:
        level = np.concatenate([a, b], axis=-2).sum(axis=-1).mean(axis=-1) / rows
        prior = Prior(share=inside(level, round(rows)))
    return spread.with_runs(runs, prior, _share(a.shape[-2], b.shape[-2]))


def _under_equality(gap: Array) -> Array:
    """The sum of squares of ``gap [..., U]`` if the systems were equally good: then each is ahead as much as the other,
    as in the score test. One run is ahead by whole rows, a mean over runs by parts of rows, so how much a row ahead
    brings is measured for each side."""
    ahead, behind = np.maximum(gap, 0), np.maximum(-gap, 0)
    total = np.abs(gap).sum(axis=-1)
    sizes = [((side**2).sum(axis=-1) + _PSEUDO) / (side.sum(axis=-1) + _PSEUDO) for side in (ahead, behind)]
    return np.asarray(total / 2 * (sizes[0] + sizes[1]))


def _least(a: Array, b: Array, size: Array) -> Array:
    """The variance due to rows if a's runs had nothing in common on a row: it is not less. Runs that happen to err on
    each other's rows, such as one that always says yes and one that always says no, look as if they were sure."""
    runs, rows = a.shape[-2], float(size.sum())
    if runs < 2:
        return np.zeros(a.shape[:-2])
    gap = a - b.mean(axis=-2, keepdims=True)
    gap = gap - gap.sum(axis=-1, keepdims=True) / rows * size
    return np.asarray((gap**2).sum(axis=-1).mean(axis=-1) / rows**2 / runs)


def spread_of_scores(table: Array, split: int, score: Callable[[Array], Array], n: int, seed: int) -> Spread:
    """Of the difference of mean scores that are no mean over rows (F1, BLEU): the larger error of the paired bootstrap
    over rows and of the jackknife. Seeds are not in it yet (:meth:`Spread.with_runs`).

    Args:
        table: statistics ``[Ka + Kb, U, S]``, a's runs first.
        split: Ka; all runs: the score itself, of no difference.
        score: sums ``[..., S]`` -> scores ``[...]``.
    """

    def gap(scores: Array) -> Array:
        other = scores[split:].mean(axis=0) if split < len(scores) else 0.0
        return np.asarray(scores[:split].mean(axis=0) - other)

    draws = [gap(np.stack([score(counts @ rows) for rows in table])) for counts in resamples(table.shape[1], n, seed)]
    totals = table.sum(axis=1)
    scores, units = score(totals), table.shape[1]
    without = np.stack([score(total - run) for total, run in zip(totals, table, strict=True)])
    influence = (units - 1) / units * (without.mean(axis=1, keepdims=True) - without)
    jackknife = (units - 1) * float(gap(without).var())
    variance = np.asarray(max(float(np.concatenate(draws).var(ddof=1)), jackknife))
    parts = [(scores[:split], influence[:split]), (scores[split:], influence[split:])]
    runs = tuple(v for of, by in parts if len(of) and (v := run_variance(of, by)) is not None)
    return Spread(gap(scores), variance, units - 1, runs=runs)


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


def spread_of_runs(metric: Metric, table: Array, split: int, n: int, seed: int, groups: Groups | None = None) -> Spread:
    """The spread of a's mean minus b's, for any metric that has one; ``table`` is that of :func:`runs_table`. What its
    own runs tell of the variance between runs is in it."""
    sums = grouped(table, groups)
    if sums.shape[1] < 2:
        raise DataError("an interval needs at least two groups of rows", received=sums.shape[1])
    prior = prior_of(metric, float(metric.score(table.sum(axis=1)).mean()), table.shape[1])
    if metric.form != "corpus":
        sizes = None if groups is None else sums[0, :, 1]
        a, b = sums[:split, :, 0], sums[split:, :, 0]
        spread = spread_of_means(a, b, proportions=metric.form == "proportion", sizes=sizes, prior=prior)
        if metric.form == "proportion":
            return spread
    else:
        spread = spread_of_scores(sums, split, metric.score, n, seed)
        spread = spread.with_runs(spread.runs, prior, _share(split, len(table) - split))
    alike = least_range(metric, sums[:split].mean(axis=0), sums[split:].mean(axis=0))
    return replace(spread, few=alike / sums.shape[1])


def paired_difference_of_runs(
    metric: Metric,
    a_runs: Sequence[Sequence[Any]],
    b_runs: Sequence[Sequence[Any]],
    references: Sequence[Any],
    n: int = 2000,
    sampling: Sampling = SAMPLING,
) -> Difference:
    """Mean of a's runs minus mean of b's runs, with rows and seeds as chance.

    Args:
        a_runs, b_runs: outputs of each seed, all for the same rows; one run for a system without seeds.
        n: resamples.

    Raises DataError when a run has other rows or there are fewer than two rows or groups.
    """
    table = runs_table(metric, a_runs, b_runs, references)
    spread = spread_of_runs(metric, table, len(a_runs), n, sampling.seed, sampling.groups)
    return difference_of(metric, table, len(a_runs), spread, sampling)


def difference_of(metric: Metric, table: Array, split: int, spread: Spread, sampling: Sampling) -> Difference:
    """The difference in a :func:`runs_table` with the interval and the p-value of ``spread``."""
    scores = metric.score(table.sum(axis=1))
    a, b = float(scores[:split].mean()), float(scores[split:].mean())
    centre, groups = float(spread.centre), None if sampling.groups is None else len(set(sampling.groups))
    intervals = []
    for level in sampling.levels:
        reach = float(spread.reach(level))
        ends = max(-metric.widest, centre - reach), min(metric.widest, centre + reach)
        intervals.append(Interval(*ends, level, TEST, groups))
    interval, equal = intervals
    return Difference(metric.name, a, b, a - b, interval, float(spread.p_value()), TEST, table.shape[1], equal)


def score_of_runs(
    metric: Metric,
    runs: Sequence[Sequence[Any]],
    references: Sequence[Any],
    n: int = 2000,
    level: float = 0.95,
    groups: Groups | None = None,
) -> tuple[float, Interval]:
    """The mean score of one system's runs with its interval over rows and seeds; a single run has that of reports."""
    if len(runs) == 1:
        value = metric.corpus(runs[0], references)
        return value, score_interval(runs[0], references, metric, n, 13, level, groups)
    table = runs_table(metric, runs[:1], runs[1:], references)
    value = float(metric.score(table.sum(axis=1)).mean())
    spread = spread_of_scores(grouped(table, groups), len(table), metric.score, n, 13)
    spread = spread.with_runs(spread.runs, prior_of(metric, value, table.shape[1]), _share(len(runs)))
    reach = float(spread.reach(level))
    low, high = value - reach, value + reach
    if metric.form == "proportion":
        # Not narrower than runs that have nothing in common on a row make it.
        apart = wilson_interval(value * table.shape[0] * table.shape[1], table.shape[0] * table.shape[1], level)
        low, high = min(low, apart.low), max(high, apart.high)
    interval = Interval(low, high, level, TEST, None if groups is None else len(set(groups)))
    if metric.name == "macro_f1" and groups is None:
        answers, golds = [output for run in runs for output in run], [*references] * len(runs)
        interval = with_rare_classes(interval, confusion_of(answers, golds) / len(runs), 13)
    if math.isfinite(metric.widest):
        interval = replace(interval, low=max(0.0, interval.low), high=min(metric.top, interval.high))
    return value, interval
