"""Does the verdict keep its promises? Simulated comparisons of systems whose true accuracies are known.

    python bench/verdict.py [--families 1000] [--json]

A family is what `foreword compare` decides together: three trained systems against one prompt, on the same rows. The
conditions are 30 to 1,000 rows, accuracies from 0.5 to 0.98, one to five seeds, runs whose true accuracies differ by 0
to 3 points, and five patterns of agreement between systems (``simulated_systems.py``).

- **family_error**: the systems are equally good; in how many families is any difference claimed? A claim from one run
  is about that run's file, one from several seeds about the method. At most 5% (5.5% in the worst condition).
- **power**: one system is better by the size that is stated beforehand (`planned_detectable`); how often is it found?
  At least 80%.
- **coverage**: how many families have every true difference inside its interval?
- **curve_coverage**, **folds**, **groups**, **equal** (`simulated_studies.py`): learning curves, cross-validation,
  grouped rows, and "as good as" where the truth is just outside the margin.
- **alarm_missed**, **alarm_false** (`planted_failures.py`): trainings of a tiny model that went wrong, and good ones.

Each row of the table has its worst condition. With 1,000 families the comparisons took half an hour on a busy core.
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


def summary(rows: Sequence[dict[str, Any]], key: str, worst: Any = max) -> dict[str, Any]:
    """Mean and worst of a figure, with the condition of the worst."""
    if not rows:
        return {"mean": None, "worst": None, "at": None}
    extreme = worst(rows, key=lambda row: row[key])
    at = {name: value for name, value in extreme.items() if name not in ("family_error", "coverage", "power")}
    return {
        "mean": float(np.mean([row[key] for row in rows])),
        "worst": extreme[key],
        "at": at,
        "conditions": len(rows),
    }


def table(measured: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A row for each number of seeds and spread of runs, and for runs that differ in one method only."""
    out = {}
    for seeds, deviation in RUNS:
        some = [m for m in measured if m["seeds"] == seeds and set(m["deviations"]) == {deviation}]
        out[f"{seeds} seed{'s' * (seeds > 1)}, runs {100 * deviation:g} points apart"] = summary(some, "family_error")
    some = [m for m in measured if len(set(m["deviations"])) > 1]
    out["3 seeds, runs of one method 3 points apart"] = summary(some, "family_error")
    return out


def run(count: int, seed: int = 13, every: Sequence[Condition] | None = None) -> dict[str, Any]:
    """The simulated comparisons."""
    chosen = list(conditions()) if every is None else list(every)
    measured = [measure(condition, count, seed) for condition in chosen]
    one_method = [unequal(c) for c in chosen if c.seeds == 3 and c.deviations[-1] == 0.03]
    measured += [measure(condition, count, seed) for condition in one_method]
    # A single run is claimed to be better itself, so its power is that of runs that are alike.
    asked = [c for c in chosen if c.seeds > 1 or not max(c.deviations)]
    powers = [power(c, count, seed) for c in asked if c.agreement in ("shared rows", "own rows") and c.accuracy < 0.98]
    found = [p for p in powers if p is not None]
    alone = [m for m in measured if len(set(m["deviations"])) > 1]
    measured = [m for m in measured if m not in alone]
    hard = [m for m in measured if (m["accuracy"], max(m["deviations"])) == HARD]
    rest = [m for m in measured if m not in hard]
    small = [m for m in measured if m["rows"] <= 100 and not (m["seeds"] == 1 and max(m["deviations"]))]
    errors, covers = summary(measured, "family_error"), summary([*measured, *found], "coverage", min)
    return {
        "families": count * len(measured),
        "family_error": errors["mean"],
        "worst_family_error": summary(rest, "family_error")["worst"],
        "worst_family_error_skewed": summary(hard, "family_error")["worst"],
        "family_error_one_method_apart": summary(alone, "family_error"),
        "family_error_on_30_to_100_rows": summary(small, "family_error")["mean"],
        "power": summary(found, "power", min)["mean"],
        "worst_power": summary(found, "power", min),
        "coverage": covers["mean"],
        "worst_coverage": covers["worst"],
        "table": table([*measured, *alone]),
        "conditions": [*measured, *alone, *found],
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=1000, help="of each condition and kind")
    parser.add_argument("--corpus", type=int, default=300, help="families judged by macro F1")
    parser.add_argument("--trainings", type=int, default=100, help="good trainings of a tiny model; 0: no alarms")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments.families)
    result |= {"macro_f1": macro_f1(arguments.corpus, 13), **studies.run(arguments.families)}
    if arguments.trainings:
        import planted_failures

        result |= planted_failures.run(arguments.trainings)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, row in result["table"].items():
        if row["mean"] is not None:
            print(f"{name:44} {100 * row['mean']:5.1f}%  worst {100 * row['worst']:5.1f}%  {row['at']}")
    for key, value in result.items():
        if key not in ("table", "conditions"):
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
