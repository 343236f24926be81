"""The test that may be read at any time: it is seldom wrong however often it is read, and it sees what is there."""

from __future__ import annotations

import numpy as np
import pytest

from foreword.evaluation.statistics.sequential_test import SequentialTest


def ends(rates: tuple[float, float], pairs: int, seed: int, alpha: float = 0.05) -> tuple[str | None, int]:
    """What the test ever says, and after how many pairs."""
    rng, test = np.random.default_rng(seed), SequentialTest(alpha)
    for number in range(pairs):
        test.add("a", float(rng.random() < rates[0]))
        test.add("b", float(rng.random() < rates[1]))
        if test.result().better is not None:
            return test.result().better, number + 1
    return None, pairs


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_equal_ones_are_seldom_told_apart_however_often_the_test_is_read(rate: float) -> None:
    wrong = sum(ends((rate, rate), 200, seed)[0] is not None for seed in range(60))
    assert wrong <= 6  # 3 of 60 at most are expected at alpha = 0.05


def test_the_better_one_is_named() -> None:
    found = [ends((0.4, 0.7), 300, seed) for seed in range(10)]
    assert [name for name, _ in found] == ["b"] * 10
    assert ends((0.7, 0.4), 300, 0)[0] == "a"
    assert np.median([pairs for _, pairs in found]) < 150


def test_the_interval_covers_the_difference_at_all_times() -> None:
    missed = 0
    for seed in range(30):
        rng, test = np.random.default_rng(seed), SequentialTest()
        inside = True
        for number in range(200):
            test.add("a", rng.beta(2, 4))
            test.add("b", rng.beta(3, 3))
            if number % 10 == 0:
                result = test.result()
                inside &= result.low <= 0.5 - 2 / 6 <= result.high
        missed += not inside
        assert test.result().high - test.result().low < 0.4
    assert missed <= 3


def test_scores_wait_for_their_partner_and_their_order_is_kept() -> None:
    early, late = SequentialTest(), SequentialTest()
    for score in (0.0, 1.0, 1.0):
        early.add("b", score)
    assert early.result().pairs == 0
    assert early.result().p == 1
    for score in (0.0, 0.0):
        early.add("a", score)
    for a, b in ((0.0, 0.0), (0.0, 1.0)):
        late.add("a", a)
        late.add("b", b)
    assert early.result() == late.result()
    assert early.result().pairs == 2


def test_a_score_outside_is_refused() -> None:
    with pytest.raises(ValueError):
        SequentialTest().add("a", 1.5)
