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

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.statistics.differences import paired_difference
from foreword.evaluation.statistics.intervals import Sampling, paired_proportion_interval, wilson_interval
from foreword.evaluation.statistics.repeated_seeds import spread_of_means
from foreword.evaluation.statistics.run_spread import RunVariance
from foreword.evaluation.statistics.sufficient_statistics import Array
from foreword.studies.compare.learning_curve import learning_curve

ACCURACY = METRICS["accuracy"]
LAWS = (((0.08, 2.0, 0.5), 400), ((0.15, 1.5, 0.6), 800), ((0.05, 0.9, 0.25), 400), ((0.20, 0.4, 0.2), 400))
"""error(n) = a + b n^-c, and the largest number of rows that is trained on."""
FOLDS = ((50, 5, 1.0, 5), (100, 10, 1.0, 5), (100, 40, 1.2, 5), (300, 50, 1.0, 5), (100, 10, 1.0, 10), (60, 30, 1.5, 3))
"""Rows, features, distance of the classes' means from 0, folds."""


def curve(count: int, law: tuple[float, float, float], most: int, rows: int, deviation: float) -> dict[str, Any]:
    """How often a curve's intervals at 1, 2 and 4 times the rows hold the true accuracy."""
    rng = np.random.default_rng([13, most, rows, int(1000 * deviation)])
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
        wrong += (low is None and true(64 * most) > true(most) + 0.02) or (
            high is not None and true(most + 1.05 * high) < true(most) + 0.02
        )
    at = {"law": law, "rows": most, "test": rows, "deviation": deviation}
    return {**at, "coverage": inside / count / 3, "named": named / count, "more_wrong": wrong / count}


def cross_validated(count: int, rows: int, features: int, distance: float, folds: int) -> dict[str, Any]:
    """Logistic regression on two normal classes: what Wilson's interval over all folds' answers holds.

    ``folds_coverage``: the mean true accuracy of the models of these folds (Bayle et al. 2020). ``method_coverage``:
    the accuracy that such a training has on average over other training rows.
    """
    rng = np.random.default_rng([rows, features, folds])
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
        interval = wilson_interval(right, rows)
        own += true in interval
        method += expected in interval
    at = {"rows": rows, "features": features, "folds": folds, "accuracy": expected}
    return {**at, "folds_coverage": own / count, "method_coverage": method / count}


def grouped_rows(count: int, size: int, groups: int = 60) -> dict[str, Any]:
    """Equal systems on rows of which ``size`` belong together: claims with the groups, and without."""
    rng = np.random.default_rng([size, groups])
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


def equal(count: int, rows: int, seeds: int, deviation: float, margin: float = 0.01) -> dict[str, Any]:
    """How often two systems are said to be equal within the margin where the truth lies on its edge."""
    rng = np.random.default_rng([rows, seeds, int(1000 * deviation)])
    condition = alike(rows, 0.97, seeds, deviation, "nearly alike")
    said, chunk = 0, 200
    for start in range(0, count, chunk):
        some = min(chunk, count - start)
        hard = rng.standard_normal((some, 1, rows), dtype=np.float32)
        prompt = hits(rng, hard, np.full((some, 1), 0.97), condition.agreement)
        trained = hits(rng, hard, levels(rng, 0.97 - margin, deviation, (some, seeds)), condition.agreement)
        if seeds == 1:
            gap = (trained - prompt)[:, 0]
            ends = [
                paired_proportion_interval(a, b, rows, LEVEL)
                for a, b in zip((gap > 0).sum(axis=1).tolist(), (gap < 0).sum(axis=1).tolist(), strict=True)
            ]
            said += sum(interval.low > -margin and interval.high < margin for interval in ends)
        else:
            spread = spread_of_means(trained, prompt, proportions=True)
            reach = spread.reach(LEVEL)
            said += int(((spread.centre - reach > -margin) & (spread.centre + reach < margin)).sum())
    return {"rows": rows, "seeds": seeds, "deviation": deviation, "claimed": said / count}


def worst(found: Sequence[dict[str, Any]], key: str, most: bool = True) -> float:
    """The largest, or the smallest, of a figure."""
    return float((max if most else min)(one[key] for one in found))


def run(count: int) -> dict[str, Any]:
    """All of it; ``count`` simulations of the cheap ones, fewer of the others."""
    few = max(20, count // 10)
    curves = [curve(few, law, most, rows, sd) for law, most in LAWS for rows in (300, 1000) for sd in (0, 0.01, 0.02)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crossed = [cross_validated(max(100, count // 2), *condition) for condition in FOLDS]
    groups = [grouped_rows(max(100, count // 2), size) for size in (2, 3, 5, 10)]
    equals = [equal(count, rows, k, sd) for rows in (300, 1000, 3000) for k, sd in ((1, 0.0), (3, 0.0), (3, 0.01))]
    return {
        "curve_coverage": worst(curves, "coverage", most=False),
        "curve_more_wrong": worst(curves, "more_wrong"),
        "folds_coverage": [worst(crossed, "folds_coverage", most=False), worst(crossed, "folds_coverage")],
        "folds_method_coverage": worst(crossed, "method_coverage", most=False),
        "groups_error": worst(groups, "family_error"),
        "groups_error_without": worst(groups, "without_groups"),
        "equal_error": worst(equals, "claimed"),
        "studies": {"curves": curves, "folds": crossed, "groups": groups, "equal": equals},
    }
