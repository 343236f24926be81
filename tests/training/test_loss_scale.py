"""A float16 base: the loss is scaled so that no gradient is lost, and halved where it overflows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from foreword.settings.schema import TrainSettings
from foreword.testing import tiny, writer_for
from foreword.testing.head_contracts import rows
from foreword.training.events import TrialState
from foreword.training.heads.completion import Complete
from foreword.training.loop import Score, Trial
from foreword.training.loss_scale import FIRST, overflowed, scale_of

SETTINGS = TrainSettings(num_train_epochs=4, per_device_train_batch_size=4, eval_steps=100)


def trial(dtype: torch.dtype) -> Trial:
    model = tiny("llama").to(dtype)  # type: ignore[arg-type]
    return Trial(model, writer_for("prefix", model), Complete(0), rows(), SETTINGS, 1e-3, lambda value: Score(0.0, 0.0))


def test_only_float16_is_scaled() -> None:
    assert scale_of(torch.float16, [TrialState()]) == FIRST
    assert scale_of(torch.float16, [TrialState(loss_scale=8.0), TrialState()]) == 8.0
    assert scale_of(torch.float32, [TrialState()]) == scale_of(torch.bfloat16, [TrialState()]) == 1.0


def test_the_reported_loss_and_norm_are_without_the_scale() -> None:
    exact, short = trial(torch.float32), trial(torch.float16)
    (expected,), (got,) = exact.run(1), short.run(1)
    assert short.progress.loss_scale == FIRST
    assert exact.progress.loss_scale == 0.0
    assert got.loss == pytest.approx(expected.loss, rel=0.02)  # type: ignore[union-attr]
    assert got.gradient_norm == pytest.approx(expected.gradient_norm, rel=0.1)  # type: ignore[union-attr]


def test_a_scale_that_overflows_is_halved_until_it_does_not() -> None:
    short = trial(torch.float16)
    short.progress.loss_scale = 2.0**40
    (step,) = short.run(1)
    assert 1.0 <= short.progress.loss_scale < 2.0**40
    assert math.isfinite(step.gradient_norm)  # type: ignore[union-attr]
    assert all(torch.isfinite(p).all() for p in short.writer.parameters())


def with_gradient(value: float) -> list[Tensor]:
    parameter = torch.zeros(2)
    parameter.grad = torch.full((2,), value)
    return [parameter]


def test_a_loss_that_is_not_finite_is_not_the_scales_doing() -> None:
    state = TrialState(loss_scale=16.0)
    assert not overflowed([state], with_gradient(math.inf), [math.nan], 16.0)
    assert overflowed([state], with_gradient(math.inf), [1.0], 16.0)
    assert state.loss_scale == 8.0


def test_after_good_steps_the_scale_grows_again() -> None:
    state = TrialState(step=199, loss_scale=16.0)
    parameters = with_gradient(16.0)
    assert not overflowed([state], parameters, [1.0], 16.0)
    assert state.loss_scale == 32.0
    assert torch.equal(parameters[0].grad, torch.ones(2))  # type: ignore[arg-type]
