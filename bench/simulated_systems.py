"""Simulated answers of systems whose true accuracies are known, and the product's decisions on them.

A row has a difficulty that all systems share; a system has its own strengths and weaknesses (the same in each of its
runs), and each run noise of its own. A run's accuracy is Beta distributed around its method's.

Letters: F families, K runs of a trained system, N rows, m comparisons with one prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import ndtri

from foreword.evaluation.statistics.intervals import mcnemar_p, paired_proportion_interval
from foreword.evaluation.statistics.power import holm
from foreword.evaluation.statistics.repeated_seeds import spread_of_means
from foreword.evaluation.statistics.run_spread import Prior, inside
from foreword.evaluation.statistics.sufficient_statistics import Array

COMPARISONS, LEVEL = 3, 0.95
CELLS = 2_000_000
AGREEMENT = {
    "shared rows": (0.6, 0.0, 0.4),
    "nearly alike": (0.9, 0.0, 0.1),
    "own rows": (0.3, 0.5, 0.2),
    "mostly own": (0.55, 0.42, 0.03),
    "independent": (0.1, 0.0, 0.9),
}
"""What makes a row hard for a run: shares of all systems' difficulty, of the system's own, and of the run's own."""


@dataclass(frozen=True)
class Condition:
    """Rows of the test set, accuracy, runs of a trained system, standard deviation between these, and agreement.

    Args:
        deviations: of each trained system.
    """

    rows: int
    accuracy: float
    seeds: int
    deviations: tuple[float, ...]
    agreement: str

    @property
    def possible(self) -> bool:
        """Whether accuracies can have that deviation without most runs being at 0 or 1."""
        return max(self.deviations) ** 2 <= 0.3 * self.accuracy * (1 - self.accuracy)


def levels(rng: np.random.Generator, accuracy: float, deviation: float, shape: tuple[int, ...]) -> Array:
    """True accuracies of runs, their mean exactly ``accuracy``."""
    if not deviation:
        return np.full(shape, accuracy)
    size = accuracy * (1 - accuracy) / deviation**2 - 1
    return rng.beta(accuracy * size, (1 - accuracy) * size, shape)


def hits(rng: np.random.Generator, hard: Array, true: Array, agreement: str) -> Array:
    """Which rows are right, ``[F, K, N]``, for difficulties ``[F, 1, N]`` and true accuracies ``[F, K]``."""
    shared, system, run = map(np.float32, AGREEMENT[agreement])
    families, _, rows = hard.shape
    noise = rng.standard_normal((families, true.shape[1], rows), dtype=np.float32)
    noise *= np.sqrt(run)
    noise += np.sqrt(shared) * hard
    if system:
        noise += np.sqrt(system) * rng.standard_normal((families, 1, rows), dtype=np.float32)
    return (noise < ndtri(true)[..., None]).astype(np.float64)


@dataclass(frozen=True)
class Decided:
    """What is said of F families: ends of the intervals, claims (1, 0, -1) and true gains of the runs, ``[F, m]``."""

    low: Array
    high: Array
    claims: Array
    gains: Array


@cache
def _single(only_a: int, only_b: int, rows: int, each: float) -> tuple[float, float, float]:
    interval = paired_proportion_interval(only_a, only_b, rows, each)
    return interval.low, interval.high, mcnemar_p(only_a, only_b)


def decide(trained: Sequence[Array], prompt: Array, level: float = LEVEL) -> tuple[Array, Array, Array]:
    """Ends and claims ``[F, m]`` of systems ``[F, K, N]`` against a prompt ``[F, 1, N]``, as ``compare_family``."""
    pairs, rows = len(trained), prompt.shape[-1]
    tested = np.full(len(prompt), pairs)
    if trained[0].shape[1] == 1:
        gap = np.stack([system[:, 0] - prompt[:, 0] for system in trained], axis=1)
        counts = np.stack([(gap > 0).sum(axis=-1), (gap < 0).sum(axis=-1)], axis=-1)
        least = 0.5 ** counts.sum(axis=-1)
        for share in range(pairs - 1, 0, -1):
            tested = np.where((least <= (1 - level) / share).sum(axis=1) <= share, share, tested)
        each = 1 - (1 - level) / tested
        parts = [
            [_single(a, b, rows, share) for a, b in family]
            for family, share in zip(counts.tolist(), each.tolist(), strict=True)
        ]
        low, high, p_values = np.moveaxis(np.array(parts), -1, 0)
    else:
        each = 1 - (1 - level) / pairs
        spreads = [spread_of_means(system, prompt, proportions=True) for system in trained]
        seen = [runs for spread in spreads for runs in spread.runs]
        means = [np.concatenate([system, prompt], axis=1).mean(axis=(-1, -2)) for system in trained]
        prior = Prior(share=inside(np.mean(means, axis=0), rows))
        pooled = [spread.with_runs(seen, prior, 1 / trained[0].shape[1]) for spread in spreads]
        reach = np.stack([spread.reach(each) for spread in pooled], axis=1)
        centre = np.stack([spread.centre for spread in pooled], axis=1)
        low, high = np.maximum(-1, centre - reach), np.minimum(1, centre + reach)
        p_values = np.stack([spread.p_value() for spread in pooled], axis=1)
    by_holm = np.array([holm(family) for family in p_values.tolist()])
    rejected = np.minimum(by_holm, tested[:, None] * p_values) <= 1 - level
    low, high = np.where(rejected, low, np.minimum(low, 0)), np.where(rejected, high, np.maximum(high, 0))
    return low, high, (low > 0).astype(int) - (high < 0).astype(int)


def families(rng: np.random.Generator, condition: Condition, count: int, gap: float = 0.0) -> Decided:
    """Decisions on families in which the first trained system is better than the prompt and the others by ``gap``."""
    chunks = list(_chunks(rng, condition, count, gap))
    return Decided(*(np.concatenate([getattr(c, name) for c in chunks]) for name in Decided.__dataclass_fields__))


def _chunks(rng: np.random.Generator, condition: Condition, count: int, gap: float) -> Iterator[Decided]:
    c = condition
    size = max(1, CELLS // (c.rows * c.seeds))
    for start in range(0, count, size):
        some = min(size, count - start)
        hard = rng.standard_normal((some, 1, c.rows), dtype=np.float32)
        base = c.accuracy - gap
        prompt = hits(rng, hard, np.full((some, 1), base), c.agreement)
        trained, gains = [], []
        for number, deviation in enumerate(c.deviations):
            true = levels(rng, base if number else c.accuracy, deviation, (some, c.seeds))
            trained.append(hits(rng, hard, true, c.agreement))
            gains.append(true.mean(axis=1) - base)
        yield Decided(*decide(trained, prompt), np.stack(gains, axis=1))


def false_claims(condition: Condition, decided: Decided) -> float:
    """The share of families with a false claim when all methods are as good as the prompt.

    One run is claimed to be better itself: that is false where its own true accuracy is not. Several runs are claimed
    to be of a better method: that is always false.
    """
    wrong = decided.claims != 0
    if condition.seeds == 1:
        wrong &= decided.claims * decided.gains <= 1e-12
    return float(wrong.any(axis=1).mean())


def covered(condition: Condition, decided: Decided, gap: float = 0.0) -> float:
    """The share of families with every true difference inside its interval: the runs' own, or the methods'."""
    truth = np.array([gap] + [0.0] * (decided.low.shape[1] - 1))
    true = decided.gains if condition.seeds == 1 else np.broadcast_to(truth, decided.gains.shape)
    return float(((decided.low <= true + 1e-12) & (decided.high >= true - 1e-12)).all(axis=1).mean())


def alike(rows: int, accuracy: float, seeds: int, deviation: float, agreement: str) -> Condition:
    """A condition whose trained systems have the same deviation."""
    return Condition(rows, accuracy, seeds, (deviation,) * COMPARISONS, agreement)


def unequal(condition: Condition) -> Condition:
    """The same with runs that differ in the last system only."""
    return replace(condition, deviations=(0.0,) * (COMPARISONS - 1) + condition.deviations[-1:])
