"""Threads that begin and end passes all the time on one base: each pass puts hooks there and takes them away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import choice_scores
from foreword.testing.method_contracts import tiny, trained_for


@pytest.mark.parametrize("family", ["llama", "gpt2", "bart"])
def test_scoring_threads_do_not_disturb_each_other(family: str) -> None:
    model = tiny(family)
    values = [trained_for("prefix", model, seed=seed) for seed in (1, 2)]
    rows = [[101, 102, 103], [104, 105], [106]]

    def score(value: Foreword) -> torch.Tensor:
        with torch.no_grad(), injected(model, [value]):
            return choice_scores(model, rows, [[40, 41], [50]], 0)

    alone = [score(value) for value in values]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(40):
            for found, expected in zip(pool.map(score, values), alone, strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
