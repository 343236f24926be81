"""Simulated studies beside the comparison: what the intervals of learning curves, cross-validation, grouped rows and
"as good as" keep where the truth is known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from simulated_systems import LEVEL, alike, hits, levels
from sklearn.linear_model import LogisticRegression
from timed_rounds import averaged

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.statistics.differences import paired_difference
from foreword.evaluation.statistics.intervals import (
    Sampling,
    paired_proportion_interval,
    score_interval,
    widened,
    wilson_interval,
)
from foreword.evaluation.statistics.repeated_seeds import spread_of_means
from foreword.evaluation.statistics.run_spread import RunVariance
from foreword.evaluation.statistics.sufficient_statistics import Array
from foreword.studies.compare.learning_curve import learning_curve
from foreword.studies.cross_validation import wider_by

ACCURACY = METRICS["accuracy"]
LAWS = (((0.08, 2.0, 0.5), 400), ((0.15, 1.5, 0.6), 800), ((0.05, 0.9, 0.25), 400), ((0.20, 0.4, 0.2), 400))
"""error(n) = a + b n^-c, and the largest number of rows that is trained on."""
RARE: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((0.9, 0.07, 0.03), (0.95, 0.6, 0.5)),
    ((0.7, 0.2, 0.1), (0.9, 0.7, 0.6)),
    ((0.95, 0.05), (0.97, 0.5)),
    ((0.1,) * 10, (0.7,) * 10),
)
"""Shares of the classes, and how many rows of each are answered right."""
FOLDS = ((50, 5, 1.0, 5), (100, 10, 1.0, 5), (100, 40, 1.2, 5), (300, 50, 1.0, 5), (100, 10, 1.0, 10), (60, 30, 1.5, 3))
"""Rows, features, distance of the classes' means from 0, folds."""


def curve(
    count: int, law: tuple[float, float, float], most: int, rows: int, deviation: float, seed: int = 13
) -> dict[str, Any]:
    """How often a curve's intervals at 1, 2 and 4 times the rows hold the true accuracy."""
    rng = np.random.default_rng([seed, most, rows, int(1000 * deviation)])
    floor, slope, power = law

    def true(size: float) -> float:
        return float(1 - floor - slope * size**-power)

    inside = named = wrong = 0
    for _ in range(count):
        hard = rng.standard_normal((1, 1, rows), dtype=np.float32)
        outputs = {}
        for size in (most // 8, most // 4, most // 2, most):
            level = np.clip(true(size) + deviation * rng.standard_normal((1, 1)), 0.02, 0.995)
            outputs[size] = ["y" if hit else "n" for hit in hits(rng, hard, level, "shared rows")[0, 0]]
        own = 0.4 * true(most) * (1 - true(most)) / rows
        runs = deviation * rng.standard_normal((3, 3)) + math.sqrt(own) * rng.standard_normal((3, 3))
        seen = [RunVariance(np.asarray(three.var(ddof=1)), np.asarray(own), 2) for three in runs]
        found = learning_curve(ACCURACY, outputs, ["y"] * rows, 0.01, seen=seen, n=400)
        expected = {point["rows"]: point for point in found["expected"]}
        inside += sum(expected[k]["low"] <= true(k) <= expected[k]["high"] for k in (most, 2 * most, 4 * most))
        low, high = found["more_low"], found["more_high"]
        named += high is not None
        # Five in a hundred more or fewer are what rounding and the steps of the search may do.
        wrong += (low is None and true(64 * most) > true(most) + 0.02) or (
            high is not None and not true(most + 0.95 * low) <= true(most) + 0.02 <= true(most + 1.05 * high)
        )
    at = {"law": law, "rows": most, "test": rows, "deviation": deviation}
    return {**at, "coverage": inside / count / 3, "named": named / count, "more_wrong": wrong / count}


def cross_validated(
    count: int, rows: int, features: int, distance: float, folds: int, seed: int = 13
) -> dict[str, Any]:
    """Logistic regression on two normal classes: what the interval over all folds' answers holds.

    ``folds_coverage``: the mean true accuracy of the models of these folds (Bayle et al. 2020). ``method_coverage``:
    the accuracy that such a training has on average over other training rows.
    """
    rng = np.random.default_rng([seed, rows, features, folds])
    middle = np.zeros(features)
    middle[0] = distance

    def draw(size: int) -> tuple[Array, Array]:
        labels = np.arange(size) % 2
        return rng.standard_normal((size, features)) + np.where(labels[:, None] == 1, 1, -1) * middle, labels

    def accuracy(model: Any) -> float:
        weights, bias = model.coef_[0], float(model.intercept_[0])
        length = float(np.linalg.norm(weights)) or 1.0
        reach = float(weights @ middle)
        return float(0.5 * ndtr((reach + bias) / length) + 0.5 * ndtr((reach - bias) / length))

    def fitted(table: Array, labels: Array) -> Any:
        return LogisticRegression(max_iter=200).fit(table, labels)

    expected = float(np.mean([accuracy(fitted(*draw(rows * (folds - 1) // folds))) for _ in range(4 * count)]))
    own = method = 0
    for _ in range(count):
        table, labels = draw(rows)
        part = rng.permutation(rows) % folds
        right, true = 0, 0.0
        for fold in range(folds):
            model = fitted(table[part != fold], labels[part != fold])
            right += int((model.predict(table[part == fold]) == labels[part == fold]).sum())
            true += accuracy(model) / folds
        interval = widened(wilson_interval(right, rows), right / rows, wider_by(folds))
        own += true in interval
        method += expected in interval
    at = {"rows": rows, "features": features, "folds": folds, "accuracy": expected}
    return {**at, "folds_coverage": own / count, "method_coverage": method / count}


def grouped_rows(count: int, size: int, groups: int = 60, seed: int = 13) -> dict[str, Any]:
    """Equal systems on rows of which ``size`` belong together: claims with the groups, and without."""
    rng = np.random.default_rng([seed, size, groups])
    names = [number // size for number in range(groups * size)]
    golds, told, plain = ["y"] * len(names), 0, 0
    for number in range(count):
        shared = rng.standard_normal(groups)
        answers = []
        for _ in range(2):
            each = math.sqrt(0.5) * shared + math.sqrt(0.5) * rng.standard_normal(groups)
            rows = math.sqrt(0.8) * np.repeat(each, size) + math.sqrt(0.2) * rng.standard_normal(len(names))
            answers.append(["y" if value < ndtri(0.8) else "n" for value in rows])
        told += paired_difference(
            ACCURACY, *answers, golds, n=500, sampling=Sampling(seed=number, groups=names)
        ).decided
        plain += paired_difference(ACCURACY, *answers, golds).decided
    return {"size": size, "groups": groups, "family_error": told / count, "without_groups": plain / count}


def equal(count: int, rows: int, seeds: int, deviation: float, margin: float = 0.02, seed: int = 13) -> dict[str, Any]:
    """How often two systems are said to be equal within the margin: ``claimed`` where the truth lies on its edge, and
    ``power`` where they are equal."""
    condition = alike(rows, 0.95, seeds, deviation, "nearly alike")
    shares = []
    for gap in (margin, 0.0):
        rng = np.random.default_rng([seed, rows, seeds, int(1000 * deviation), int(1000 * gap)])
        hard = rng.standard_normal((count, 1, rows), dtype=np.float32)
        prompt = hits(rng, hard, np.full((count, 1), 0.95), condition.agreement)
        trained = hits(rng, hard, levels(rng, 0.95 - gap, deviation, (count, seeds)), condition.agreement)
        shares.append(float(_equal(trained, prompt, margin).mean()))
    at = {"rows": rows, "seeds": seeds, "deviation": deviation, "margin": margin}
    return {**at, "claimed": shares[0], "power": shares[1]}


def _equal(trained: Array, prompt: Array, margin: float) -> Array:
    """Which families ``[F, K, N]`` are said to be equal to ``[F, 1, N]``, by two one-sided tests."""
    level = 2 * LEVEL - 1
    if trained.shape[1] > 1:
        spread = spread_of_means(trained, prompt, proportions=True)
        reach = spread.reach(level)
        return np.asarray((spread.centre - reach > -margin) & (spread.centre + reach < margin))
    gap = (trained - prompt)[:, 0]
    counts = zip((gap > 0).sum(axis=1).tolist(), (gap < 0).sum(axis=1).tolist(), strict=True)
    ends = [paired_proportion_interval(a, b, prompt.shape[-1], level) for a, b in counts]
    return np.array([interval.low > -margin and interval.high < margin for interval in ends])


def rare_classes(
    count: int, shares: Sequence[float], recalls: Sequence[float], rows: int, seed: int = 13
) -> dict[str, Any]:
    """How often the interval of one system's macro F1 holds the true one, where classes are rare."""
    rng, macro = np.random.default_rng([seed, rows, len(shares)]), METRICS["macro_f1"]
    share, recall = np.array(shares), np.array(recalls)
    wrong = np.where(np.eye(len(share), dtype=bool), 0.0, share)
    wrong /= wrong.sum(axis=1, keepdims=True)
    joint = (share * (1 - recall))[:, None] * wrong + np.diag(share * recall)
    true = float((2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))).mean())
    inside, width = 0, 0.0
    for number in range(count):
        drawn = rng.choice(joint.size, rows, p=joint.ravel())
        golds, answers = (part.astype(str).tolist() for part in np.divmod(drawn, len(share)))
        interval = score_interval(answers, golds, macro, 300, number)
        inside += true in interval
        width += interval.high - interval.low
    return {"shares": shares, "rows": rows, "true": true, "coverage": inside / count, "width": width / count}


def worst(found: Sequence[dict[str, Any]], key: str, most: bool = True) -> float:
    """The largest, or the smallest, of a figure."""
    return float((max if most else min)(one[key] for one in found))


Row = dict[str, Any]
CURVES = [(law, most, rows, sd) for law, most in LAWS for rows in (300, 1000) for sd in (0.0, 0.01, 0.02)]
EQUALS = [
    (rows, seeds, sd, margin)
    for rows, margin in ((300, 0.05), (300, 0.02), (1000, 0.02), (1000, 0.01), (3000, 0.02))
    for seeds, sd in ((1, 0.0), (3, 0.0), (3, 0.01), (5, 0.01))
]
FIGURES = (
    "coverage", "width", "named", "more_wrong", "folds_coverage", "method_coverage", "family_error", "without_groups",
    "claimed", "power",
)  # fmt: skip


def measured(seconds: float) -> dict[str, list[Row]]:
    """Every study in every condition, its share of the time each."""
    rare = [(*classes, rows) for classes in RARE for rows in (30, 100)]

    def part(every: Sequence[Any], make: Any, share: float) -> list[Row]:
        return averaged(every, make, FIGURES, share * seconds)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = part(FOLDS, lambda c, number: cross_validated(40, *c, seed=number), 0.25)
    return {
        "curves": part(CURVES, lambda c, number: curve(5, *c, seed=number), 0.35),
        "folds": folds,
        "groups": part((2, 3, 5, 10), lambda size, number: grouped_rows(50, size, seed=number), 0.1),
        "equal": part(EQUALS, lambda c, number: equal(300, *c, seed=number), 0.15),
        "rare": part(rare, lambda c, number: rare_classes(40, *c, seed=number), 0.15),
    }


def run(seconds: float) -> dict[str, Any]:
    """All of it, in about so much time."""
    found = measured(seconds)
    curves, crossed, groups, equals = (found[name] for name in ("curves", "folds", "groups", "equal"))
    return {
        "curve_coverage": worst(curves, "coverage", most=False),
        "curve_named": float(np.mean([row["named"] for row in curves])),
        "curve_more_wrong": worst(curves, "more_wrong"),
        "folds_coverage": [worst(crossed, "folds_coverage", most=False), worst(crossed, "folds_coverage")],
        "folds_method_coverage": worst(crossed, "method_coverage", most=False),
        "groups_error": worst(groups, "family_error"),
        "groups_error_without": worst(groups, "without_groups"),
        "equal_error": worst(equals, "claimed"),
        "equal_power": float(np.mean([row["power"] for row in equals])),
        "rare_class_coverage": worst(found["rare"], "coverage", most=False),
        "studies": found,
    }
