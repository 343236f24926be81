"""A batch in parts of like length: every row once, less padding, the same gradient."""

from __future__ import annotations

import random

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.data.tokens.examples import Example
from foreword.testing.method_contracts import tiny, writer_for
from foreword.training.micro_batches import without_padding
from foreword.training.objective import Choose


def examples(lengths: list[int]) -> list[Example]:
    dice = random.Random(1)
    return [
        Example(str(i), tuple(dice.randrange(3, 250) for _ in range(n)), (), i % 2, "") for i, n in enumerate(lengths)
    ]


@pytest.mark.parametrize("lengths", [[5], [7] * 16, [3, 200, 4, 190, 5], [1, 1000], list(range(1, 60, 4))], ids=str)
def test_every_row_is_in_exactly_one_part(lengths: list[int]) -> None:
    rows = examples(lengths)
    parts = without_padding(rows)
    assert sorted(r.id for part in parts for r in part) == sorted(r.id for r in rows)


def test_rows_of_like_length_stay_together_and_long_ones_are_taken_out() -> None:
    assert len(without_padding(examples([30, 31, 32, 33]))) == 1
    parts = without_padding(examples([10] * 8 + [400] * 2))
    assert [sorted({len(r.input_ids) for r in part}) for part in parts] == [[10], [400]]


def test_padding_never_grows() -> None:
    dice = random.Random(2)
    for _ in range(50):
        rows = examples([dice.randrange(1, 120) for _ in range(16)])
        padded = sum(len(part) * max(len(r.input_ids) for r in part) for part in without_padding(rows))
        assert padded <= 16 * max(len(r.input_ids) for r in rows)


def test_the_gradient_of_the_parts_is_that_of_the_batch() -> None:
    model, rows = tiny("llama"), examples([4, 90, 6, 80, 5, 7])
    objective = Choose(((11,), (12,)), 0)
    found = []
    assert len(without_padding(rows)) > 1
    for parts in ([rows], without_padding(rows)):
        writer = writer_for("prefix", model)
        for part in parts:
            value = writer.write()
            with injected(model, [value]):
                objective.losses(objective.outputs(model, part), part, value).sum().backward()
        found.append([p.grad.clone() for p in writer.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * max(1.0, float(b.abs().max())))
