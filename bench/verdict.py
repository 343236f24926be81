"""Does the verdict keep its promises? Simulated comparisons of systems whose true accuracies are known.

    python bench/verdict.py [--families 1000] [--json]

A family is what `foreword compare` decides together: three trained systems against one prompt, on the same rows. A row
has a difficulty that all systems share; a trained system's accuracy differs from seed to seed (Beta distributed with
the given standard deviation), and each run has noise of its own on every row.

- **family_error**: the systems are equally good; in how many families is any difference claimed, in either direction?
  At most 5%.
- **power**: one system is better by the size that is stated beforehand (`planned_detectable`); how often is it found?
  At least 80%.
- **coverage**: how many families have every true difference inside its interval? 93% to 97%.

Figures are over all conditions; `conditions` has each, and `worst` the extremes. Macro F1 goes through the bootstrap
and has figures of its own. It takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy.special import ndtri

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.statistics.intervals import mcnemar_p, paired_proportion_interval
from foreword.evaluation.statistics.power import holm
from foreword.evaluation.statistics.repeated_seeds import spread_of_means
from foreword.evaluation.statistics.sufficient_statistics import Array
from foreword.evaluation.statistics.verdict import compare_family, planned_detectable

COMPARISONS, LEVEL = 3, 0.95
# How much of what makes a row hard is the row itself; the rest is the run's own.
SHARED = 0.6
CELLS = 4_000_000


@dataclass(frozen=True)
class Condition:
    """Rows of the test set, accuracy, standard deviation between seeds, and runs of a trained system."""

    rows: int
    accuracy: float
    deviation: float
    seeds: int


CONDITIONS = [
    Condition(rows, accuracy, deviation, seeds)
    for rows, accuracy, (deviation, seeds) in product(
        (50, 100, 300, 1000), (0.6, 0.8, 0.95), ((0.0, 3), (0.01, 3), (0.03, 3), (0.02, 5), (0.0, 1))
    )
]


def hits(rng: np.random.Generator, hard: Array, accuracy: float, deviation: float, runs: int) -> Array:
    """Which rows are right: ``[F, runs, N]`` for difficulties ``[F, 1, N]``."""
    families, _, rows = hard.shape
    level = np.full((families, runs, 1), accuracy)
    if deviation:
        size = accuracy * (1 - accuracy) / deviation**2 - 1
        level = rng.beta(accuracy * size, (1 - accuracy) * size, (families, runs, 1))
    noise = rng.standard_normal((families, runs, rows))
    return (np.sqrt(SHARED) * hard + np.sqrt(1 - SHARED) * noise < ndtri(level)).astype(np.float64)


@cache
def single(only_a: int, only_b: int, rows: int) -> tuple[float, float, float]:
    """Ends and p-value of two single runs, as `compare_family` makes them."""
    interval = paired_proportion_interval(only_a, only_b, rows, 1 - (1 - LEVEL) / COMPARISONS)
    return interval.low, interval.high, mcnemar_p(only_a, only_b)


def ends(trained: Array, prompt: Array) -> tuple[Array, Array, Array]:
    """Interval ends and p-values ``[F]`` of one comparison of each family."""
    if trained.shape[1] > 1:
        spread = spread_of_means(trained, prompt, proportions=True)
        reach = spread.reach(1 - (1 - LEVEL) / COMPARISONS)
        return spread.centre - reach, spread.centre + reach, spread.p_value()
    gap = trained[:, 0] - prompt[:, 0]
    counts = zip((gap > 0).sum(axis=1).tolist(), (gap < 0).sum(axis=1).tolist(), strict=True)
    return tuple(np.array([single(a, b, gap.shape[1]) for a, b in counts]).T)  # type: ignore[return-value]


def decide(low: Array, high: Array, p_values: Array) -> tuple[Array, Array, Array]:
    """Coherent ends and decisions (1, 0, -1), each ``[F, m]``: Holm's procedure and the interval have to agree."""
    rejected = np.array([holm(family) for family in p_values.tolist()]) <= 1 - LEVEL
    low, high = np.where(rejected, low, np.minimum(low, 0)), np.where(rejected, high, np.maximum(high, 0))
    return low, high, (low > 0).astype(int) - (high < 0).astype(int)


def simulate(rng: np.random.Generator, condition: Condition, gap: float, families: int) -> Iterator[tuple[Array, ...]]:
    """Chunks of families in which the first trained system is better than the prompt and the others by ``gap``."""
    c = condition
    chunk = max(1, CELLS // (c.rows * c.seeds))
    for start in range(0, families, chunk):
        hard = rng.standard_normal((min(chunk, families - start), 1, c.rows))
        low_accuracy = c.accuracy - gap
        prompt = hits(rng, hard, low_accuracy, 0.0, 1)
        made = []
        for place in range(COMPARISONS):
            trained = hits(rng, hard, c.accuracy if place == 0 else low_accuracy, c.deviation, c.seeds)
            made.append(ends(trained, prompt))
        yield decide(*(np.stack(column, axis=1) for column in zip(*made, strict=True)))


def discordance(condition: Condition, gap: float) -> float:
    """The share of rows that exactly one of a trained run and the prompt gets right."""
    rng = np.random.default_rng(0)
    hard = rng.standard_normal((1, 1, 200_000))
    a = hits(rng, hard, condition.accuracy, 0.0, 1)
    return float((a != hits(rng, hard, condition.accuracy - gap, 0.0, 1)).mean())


def stated(condition: Condition) -> float:
    """What the plan says can be shown, when it assumes the discordance that is the true one at that size."""
    c, gap = condition, 0.1
    for _ in range(8):
        share = discordance(c, min(gap, c.accuracy - 0.02))
        gap = planned_detectable(
            c.rows, (c.seeds, 1), COMPARISONS, discordance=share, deviation=c.deviation, level=LEVEL
        )
    return gap


def measure(condition: Condition, families: int, seed: int) -> dict[str, Any]:
    """Family error, coverage and power of one condition."""
    rng = np.random.default_rng([seed, condition.rows, int(1000 * condition.accuracy), condition.seeds])
    same = [np.concatenate(parts) for parts in zip(*simulate(rng, condition, 0.0, families), strict=True)]
    covered = ((same[0] <= 0) & (same[1] >= 0)).all(axis=1)
    out = {**vars(condition), "family_error": float((same[2] != 0).any(axis=1).mean())}
    gap = stated(condition)
    out |= {"stated": gap, "power": None, "covered_equal": float(covered.mean()), "covered_gap": None}
    if gap < condition.accuracy - 0.05:  # a prompt cannot be worse than nothing
        other = [np.concatenate(parts) for parts in zip(*simulate(rng, condition, gap, families), strict=True)]
        truth = np.array([gap] + [0.0] * (COMPARISONS - 1))
        out["power"] = float((other[2][:, 0] == 1).mean())
        out["covered_gap"] = float(((other[0] <= truth) & (other[1] >= truth)).all(axis=1).mean())
    return out


def macro_f1(families: int, seed: int) -> dict[str, Any]:
    """Equal systems judged by macro F1, through the whole of `compare_family`: bootstrap, jackknife, correction."""
    rng = np.random.default_rng(seed)
    claimed = covered = 0
    for family in range(families):
        golds = rng.integers(3, size=120)
        hard = rng.standard_normal((1, 1, 120))

        def run(level: float, runs: int, golds: Any = golds, hard: Any = hard) -> list[list[str]]:
            right = hits(rng, hard, 0.75, level, runs)[0]
            wrong = (golds + rng.integers(1, 3, size=right.shape)) % 3
            return np.where(right > 0, golds, wrong).astype(str).tolist()

        systems = {"prompt": run(0, 1), **{str(place): run(0.02, 3) for place in range(COMPARISONS)}}
        pairs = [(str(place), "prompt") for place in range(COMPARISONS)]
        found = compare_family(METRICS["macro_f1"], systems, pairs, golds.astype(str).tolist(), n=400, seed=family)
        claimed += any(c.better or c.worse for c in found)
        covered += all(0.0 in c.difference.interval for c in found)
    return {"families": families, "family_error": claimed / families, "coverage": covered / families}


def run(families: int, corpus: int, seed: int = 13) -> dict[str, Any]:
    """The whole simulation."""
    found = [measure(condition, families, seed) for condition in CONDITIONS]
    powers = [one["power"] for one in found if one["power"] is not None]
    covers = [one[key] for one in found for key in ("covered_equal", "covered_gap") if one[key] is not None]
    errors = [one["family_error"] for one in found]
    return {
        "comparisons": families * COMPARISONS * len(found),
        "family_error": sum(errors) / len(errors),
        "power": sum(powers) / len(powers),
        "coverage": sum(covers) / len(covers),
        "worst": {"family_error": max(errors), "power": min(powers), "coverage": [min(covers), max(covers)]},
        "macro_f1": macro_f1(corpus, seed),
        "conditions": found,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=1000, help="of each condition and kind")
    parser.add_argument("--corpus", type=int, default=300, help="families judged by macro F1")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments.families, arguments.corpus)
    if arguments.json:
        print(json.dumps(result))
        return
    for one in result["conditions"]:
        shares = [one["family_error"], one["power"], one["covered_equal"], one["covered_gap"]]
        cells = ["    -" if share is None else f"{100 * share:5.1f}" for share in shares]
        print(
            f"{one['rows']:5} rows  accuracy {one['accuracy']:.2f}  sd {one['deviation']:.2f}  {one['seeds']} seeds  "
            f"error {cells[0]}  power {cells[1]} at {100 * one['stated']:4.1f}  coverage {cells[2]} {cells[3]}"
        )
    for key in ("comparisons", "family_error", "power", "coverage", "worst", "macro_f1"):
        print(f"{key}: {result[key]}")


if __name__ == "__main__":
    main()
