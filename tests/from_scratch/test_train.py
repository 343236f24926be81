"""Training a base from scratch: what is counted, that it learns, and that stopping costs nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM
from foreword.errors import ResumeError, TrainingError
from foreword.settings.schema import BaseSettings
from foreword.training.from_scratch.language_model import BaseTraining, Line

LINES = [
    Line((5, 6, 7) if i % 3 else (), tuple(10 + (i * j) % 9 for j in range(1, 3 + i % 5)), (30 + i % 2, 2))
    for i in range(24)
]


def training(**settings: object) -> BaseTraining:
    torch.manual_seed(0)
    model = RecurrentForCausalLM(RecurrentConfig(40, hidden_size=16, dropout=0.2))
    made = BaseSettings(**{"batch_size": 8, "num_train_epochs": 3.0, "learning_rate": 1e-2, **settings})  # type: ignore[arg-type]
    return BaseTraining(model, LINES, LINES[:6], made, 0)


def weights(one: BaseTraining) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in one.model.state_dict().items()}


def test_losses_are_those_of_text_and_answer_and_not_of_the_lead() -> None:
    one = training()
    one.model.eval()
    with torch.no_grad():
        text, answer = one._losses(LINES)
        for line in LINES[:4]:
            ids = torch.tensor([[*line.lead, *line.text, *line.answer]])
            plain = -one.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            begin = max(0, len(line.lead) - 1)
            end = len(line.lead) + len(line.text) - 1
            own_text, own_answer = one._losses([line])
            torch.testing.assert_close(own_text, plain[begin:end], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(own_answer, plain[end:], atol=1e-5, rtol=1e-4)
    # Without a lead nothing stands before the first token.
    assert len(text) == sum(len(line.text) - (not line.lead) for line in LINES)
    assert len(answer) == 2 * len(LINES)


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    one = training(num_train_epochs=8.0, early_stopping_patience=0)
    events = list(one.run(tmp_path / "c.safetensors"))
    assert len(events) == one.total == 24
    assert events[-1]["loss"] < events[0]["loss"]
    assert one.state.best == min(one.state.dev)
    one._evaluate()
    assert one.state.dev[-1] == pytest.approx(one.state.best, abs=1e-6)
    assert not one.model.training


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_training_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole = training()
    list(whole.run(tmp_path / "whole.safetensors"))
    path = tmp_path / "part.safetensors"
    first = training()
    for _, _ in zip(range(stop), first.run(path), strict=False):
        pass
    first.save(path)
    second = training()
    second.load(path)
    assert second.state.step == stop
    list(second.run(path))
    assert second.state == whole.state
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(second).items())


def test_early_stopping(tmp_path: Path) -> None:
    one = training(learning_rate=5.0, num_train_epochs=20.0, early_stopping_patience=1)
    list(one.run(tmp_path / "c.safetensors"))
    assert one.state.stopped
    assert one.state.step < one.total


def test_what_is_not_a_number_is_said(tmp_path: Path) -> None:
    one = training()
    with torch.no_grad():
        one.model.lm_head.weight.fill_(math.inf)
    with pytest.raises(TrainingError, match="not finite"):
        list(one.run(tmp_path / "c.safetensors"))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(ResumeError, match="checkpoint"):
        training().load(path)
