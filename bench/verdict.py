"""Does the verdict keep its promises? Simulated comparisons of systems whose true accuracies are known.

    python bench/verdict.py [--minutes 5] [--json]

A family is what `foreword compare` decides together: three trained systems against one prompt, on the same rows. The
conditions are 30 to 1,000 rows, accuracies from 0.5 to 0.98, one to five seeds, runs whose true accuracies differ by 0
to 3 points, and five patterns of agreement between systems (``simulated_systems.py``).

- **family_error**: the systems are equally good; in how many families is any difference claimed? A claim from one run
  is about that run's file, one from several seeds about the method. At most 5% (5.5% in the worst condition).
- **power**: one system is better by the size that is stated beforehand (`planned_detectable`); how often is it found?
  At least 80%.
- **coverage**: how many families have every true difference inside its interval?
- **curve_coverage**, **folds**, **groups**, **equal** (`simulated_studies.py`): learning curves, cross-validation,
  grouped rows, and "as good as" where the truth is on the edge of the margin, with its power where there is none.
- **alarm_missed**, **alarm_false** (`planted_failures.py`): trainings of a tiny model that went wrong, and good ones.

The time is shared out beforehand. Every condition gets the same number of families, as many as there is time for; of
each row of the table the worst conditions are then simulated again, anew and ten times as often: of a thousand
conditions the worst of a first look is mostly chance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import simulated_studies as studies
from simulated_systems import (
    AGREEMENT,
    COMPARISONS,
    LEVEL,
    Condition,
    alike,
    covered,
    false_claims,
    families,
    hits,
    unequal,
)
from timed_rounds import Row, averaged

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.statistics.intervals import Sampling
from foreword.evaluation.statistics.verdict import compare_family, planned_detectable

ROWS, ACCURACIES = (30, 100, 300, 1000), (0.5, 0.7, 0.9, 0.95, 0.98)
RUNS = ((1, 0.0), (1, 0.02), *product((2, 3, 5), (0.0, 0.01, 0.03)))
"""Seeds, and the standard deviation of the runs' true accuracies."""
HARD = (0.98, 0.03)
"""The condition for which 8% is allowed: runs whose accuracies are as skewed as they can be."""


def conditions() -> Iterator[Condition]:
    """All that are possible."""
    for (seeds, deviation), rows, accuracy, agreement in product(RUNS, ROWS, ACCURACIES, AGREEMENT):
        condition = alike(rows, accuracy, seeds, deviation, agreement)
        if condition.possible:
            yield condition


def _rng(condition: Condition, seed: int) -> np.random.Generator:
    agreement = list(AGREEMENT).index(condition.agreement)
    deviations = [int(1000 * d) for d in condition.deviations]
    return np.random.default_rng(
        [seed, condition.rows, int(100 * condition.accuracy), condition.seeds, agreement, *deviations]
    )


def measure(condition: Condition, count: int, seed: int) -> dict[str, Any]:
    """False claims and coverage of equal systems."""
    decided = families(_rng(condition, seed), condition, count)
    return {
        **vars(condition),
        "family_error": false_claims(condition, decided),
        "coverage": covered(condition, decided),
    }


def discordance(condition: Condition, gap: float) -> float:
    """The share of rows that exactly one of a trained run and the prompt gets right."""
    rng = np.random.default_rng(0)
    hard = rng.standard_normal((1, 1, 200_000), dtype=np.float32)
    a = hits(rng, hard, np.array([[condition.accuracy]]), condition.agreement)
    return float((a != hits(rng, hard, np.array([[condition.accuracy - gap]]), condition.agreement)).mean())


def stated(condition: Condition) -> float:
    """What the plan says can be shown, when it assumes the discordance that is the true one at that size."""
    gap = 0.1
    for _ in range(8):
        share = discordance(condition, min(gap, condition.accuracy - 0.02))
        gap = planned_detectable(
            condition.rows, (condition.seeds, 1), COMPARISONS, discordance=share, deviation=max(condition.deviations),
            level=LEVEL,
        )  # fmt: skip
    return gap


def power(condition: Condition, count: int, seed: int) -> dict[str, Any] | None:
    """How often the stated size is found, and coverage there; None where a prompt would be worse than nothing."""
    gap = stated(condition)
    if gap >= condition.accuracy - 0.05:
        return None
    decided = families(_rng(condition, seed + 1), condition, count, gap)
    found = float((decided.claims[:, 0] == 1).mean())
    return {**vars(condition), "stated": gap, "power": found, "coverage": covered(condition, decided, gap)}


def macro_f1(count: int, seed: int) -> dict[str, Any]:
    """Equal systems judged by macro F1, through the whole of `compare_family`: bootstrap, jackknife, correction."""
    rng = np.random.default_rng(seed)
    claimed = inside = 0
    for number in range(count):
        golds = rng.integers(3, size=120)
        hard = rng.standard_normal((1, 1, 120), dtype=np.float32)

        def run(deviation: float, runs: int, golds: Any = golds, hard: Any = hard) -> list[list[str]]:
            true = 0.75 + deviation * rng.standard_normal((1, runs))
            right = hits(rng, hard, true, "shared rows")[0]
            wrong = (golds + rng.integers(1, 3, size=right.shape)) % 3
            return np.where(right > 0, golds, wrong).astype(str).tolist()

        systems = {"prompt": run(0, 1), **{str(other): run(0.02, 3) for other in range(COMPARISONS)}}
        pairs = [(str(other), "prompt") for other in range(COMPARISONS)]
        compared = compare_family(
            METRICS["macro_f1"], systems, pairs, golds.astype(str).tolist(), n=400, sampling=Sampling(seed=number)
        )
        claimed += any(c.better or c.worse for c in compared)
        inside += all(0.0 in c.difference.interval for c in compared)
    return {"families": count, "family_error": claimed / count, "coverage": inside / count}


FIGURES = ("family_error", "coverage", "power")


def kind_of(row: Row) -> str:
    """The row of the table that a condition belongs to."""
    if len(set(row["deviations"])) > 1:
        return f"{row['seeds']} seeds, runs of one method {100 * row['deviations'][-1]:g} points apart"
    return f"{row['seeds']} seed{'s' * (row['seeds'] > 1)}, runs {100 * row['deviations'][0]:g} points apart"


def condition_of(row: Row) -> Condition:
    """The condition that was measured."""
    return Condition(**{name: row[name] for name in Condition.__dataclass_fields__})


def candidates(rows: Sequence[Row], key: str, most: bool, count: int = 4) -> list[Condition]:
    """The worst conditions of each row of the table."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row), []).append(row)
    ranked = [sorted(some, key=lambda row: row[key], reverse=most)[:count] for some in kinds.values()]
    return [condition_of(row) for some in ranked for row in some]


def summary(rows: Sequence[Row], again: Sequence[Row], key: str, most: bool = True) -> dict[str, Any]:
    """Mean of a figure over all conditions, and the worst of those that were simulated ``again``, with where."""
    if not rows:
        return {"mean": None, "worst": None, "at": None, "conditions": 0}
    extreme = (max if most else min)(again or rows, key=lambda row: row[key])
    at = {name: extreme[name] for name in (*Condition.__dataclass_fields__, "stated") if name in extreme}
    mean = float(np.mean([row[key] for row in rows]))
    return {"mean": mean, "worst": extreme[key], "at": at, "conditions": len(rows)}


def table(rows: Sequence[Row], again: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """A row for each number of seeds and spread of runs, and for runs that differ in one method only."""
    kinds = list(dict.fromkeys(map(kind_of, rows)))
    parts = {
        kind: ([r for r in rows if kind_of(r) == kind], [r for r in again if kind_of(r) == kind]) for kind in kinds
    }
    return {kind: summary(some, worst, "family_error") for kind, (some, worst) in parts.items()}


def run(seconds: float, seed: int = 13, every: Sequence[Condition] | None = None, count: int = 100) -> dict[str, Any]:
    """The simulated comparisons.

    Args:
        seconds: for all of it, about.
        every: the conditions; None: all that are possible, and those where one method alone is unstable.
        count: families of each condition a round, and ten times as many of the worst ones.
    """
    chosen = list(conditions()) if every is None else list(every)
    # A single run is claimed to be better itself, so its power is that of runs that are alike.
    asked = [c for c in chosen if c.seeds > 1 or not max(c.deviations)]
    asked = [c for c in asked if c.agreement in ("shared rows", "own rows") and c.accuracy < 0.98]
    chosen += [unequal(c) for c in chosen if c.seeds == 3 and c.deviations[-1] == 0.03]
    rows = averaged(chosen, lambda c, number: measure(c, count, seed + 100 * number), FIGURES, 0.45 * seconds)
    found = averaged(asked, lambda c, number: power(c, count, seed + 100 * number), FIGURES, 0.25 * seconds)
    worst = [*candidates(rows, "family_error", True), *candidates(rows, "coverage", False, 1)]
    again = averaged(worst, lambda c, number: measure(c, 10 * count, seed + 7 + 100 * number), FIGURES, 0.2 * seconds)
    weak = candidates(found, "power", False, 1)
    weaker = averaged(weak, lambda c, number: power(c, 10 * count, seed + 7 + 100 * number), FIGURES, 0.1 * seconds)
    return {**figures(rows, again), **powers(found, weaker), "conditions": [*rows, *again, *found, *weaker]}


def figures(rows: Sequence[Row], again: Sequence[Row]) -> dict[str, Any]:
    """False claims and coverage. Where one method alone is unstable, and where accuracies are as skewed as they can be,
    the bound is 8%: these stand apart."""

    def apart(some: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
        alone = [row for row in some if len(set(row["deviations"])) > 1]
        hard = [row for row in some if row not in alone and (row["accuracy"], max(row["deviations"])) == HARD]
        return [row for row in some if row not in alone and row not in hard], hard, alone

    (plain, hard, alone), (plain_again, hard_again, alone_again) = apart(rows), apart(again)
    small = [row for row in plain if row["rows"] <= 100 and not (row["seeds"] == 1 and max(row["deviations"]))]
    every = summary([*plain, *hard], [*plain_again, *hard_again], "family_error")
    covers = summary(rows, again, "coverage", most=False)
    return {
        "family_error": every["mean"],
        "worst_family_error": summary(plain, plain_again, "family_error")["worst"],
        "worst_family_error_skewed": summary(hard, hard_again, "family_error")["worst"],
        "worst_family_error_one_method_apart": summary(alone, alone_again, "family_error")["worst"],
        "family_error_on_30_to_100_rows": summary(small, [], "family_error")["mean"],
        "coverage": covers["mean"],
        "worst_coverage": covers["worst"],
        "table": table(rows, again),
    }


def powers(found: Sequence[Row], again: Sequence[Row]) -> dict[str, Any]:
    """How often the stated size is found."""
    whole = summary(found, again, "power", most=False)
    return {"power": whole["mean"], "worst_power": whole["worst"], "worst_power_at": whole["at"]}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="for everything, about")
    parser.add_argument("--no-alarms", action="store_true", help="train nothing")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    result = run(0.45 * seconds)
    (found,) = averaged([10], lambda count, number: macro_f1(count, 13 + number), FIGURES, 0.05 * seconds)
    result |= {"macro_f1": found, **studies.run(0.3 * seconds)}
    if not arguments.no_alarms:
        import planted_failures

        result |= planted_failures.run(0.2 * seconds, each=1)
    if arguments.json:
        print(json.dumps({key: value for key, value in result.items() if key not in ("conditions", "studies")}))
        return
    for name, row in result["table"].items():
        print(f"{name:44} {100 * row['mean']:5.1f}%  worst {100 * row['worst']:5.1f}%  {row['at']}")
    for key, value in result.items():
        if key not in ("table", "conditions", "studies"):
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
