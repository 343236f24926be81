"""Alarms: trainings that taught nothing raise one, and good ones none."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import planted_failures

from foreword.data.tokens.examples import Example
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import evaluate
from foreword.evaluation.statistics.association import entropy, unrelated_p
from foreword.runs.train.alarms import alarms_on_test, unknown_text


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_failures.tiny_base(tmp_path_factory.mktemp("planted") / "base")


def test_a_good_training_raises_no_alarm(base: Path, tmp_path: Path) -> None:
    assert planted_failures.train(planted_failures.good(random.Random(0)), base, tmp_path / "run", 0) == []


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("shuffled labels", "nothing to do with the labels|no better on dev"),
        ("constant labels", "every row has the same label"),
        ("a writer without gradient", "the gradient was zero at every step"),
        ("dev of one label", "dev has only one label"),
        ("text that the tokenizer does not know", "100% of the tokens of the training rows are unknown"),
    ],
)
def test_a_planted_failure_raises_its_alarm(base: Path, tmp_path: Path, failure: str, said: str) -> None:
    alarms = planted_failures.planted(failure, base, tmp_path / "run", 0)
    assert any(part in alarm for alarm in alarms for part in said.split("|")), alarms


def test_answers_dealt_out_at_random_are_unrelated() -> None:
    rng = np.random.default_rng(1)
    for classes, rows in ((2, 40), (2, 200), (5, 100)):
        golds = [str(x) for x in rng.integers(classes, size=rows)]
        p_values = np.array([unrelated_p(rng.permutation(golds).tolist(), golds) for _ in range(2000)])
        assert np.mean(p_values <= 0.05) <= 0.07
        assert np.mean(p_values <= 0.001) <= 0.004
        assert unrelated_p(golds, golds) < 1e-6
    # 93% right where one label has 90%: hardly more than always saying it, and far from chance.
    golds = ["a"] * 90 + ["b"] * 10
    assert unrelated_p(["a"] * 89 + ["b"] * 5 + ["a"] * 6, golds) < 1e-5
    assert unrelated_p(["a"] * 100, golds) == unrelated_p(golds, ["a"] * 100) == 1.0
    assert entropy(["a", "b"] * 5) == pytest.approx(np.log(2))
    assert entropy(["a"]) == 0


def test_the_answers_on_test_have_alarms_of_their_own() -> None:
    golds = ["a"] * 16 + ["b"] * 4

    def alarms(outputs: list[str]) -> list[str]:
        rows = [Prediction(str(n), "", o, g) for n, (o, g) in enumerate(zip(outputs, golds, strict=True))]
        systems: dict[str, Any] = {"foreword": evaluate(rows, "classification")}
        return alarms_on_test({"foreword": rows}, systems)

    always = alarms(["a"] * 20)
    assert always == [
        "the model gives the same answer to every test row",
        "no better on test than always saying the most frequent label (0.800)",
    ]
    assert alarms(["b"] + ["a"] * 19) == always[1:]  # one row of twenty, and a wrong one
    assert alarms(golds) == []
    assert alarms_on_test({}, {}) == []


def test_unknown_tokens_are_counted() -> None:
    rows = [Example("1", (0, 0, 5), (), 0, "a"), Example("2", (0, 6, 7, 8), (), 0, "a")]
    [said] = unknown_text(rows, 0)
    assert said == "43% of the tokens of the training rows are unknown to the tokenizer"
    assert unknown_text(rows, None) == unknown_text(rows, 5) == unknown_text([], 0) == []
