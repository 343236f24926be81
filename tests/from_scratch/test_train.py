"""Training a base from scratch: what is counted, that it learns, and that stopping costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM
from foreword.errors import ResumeError, TrainingError
from foreword.settings.schema import BaseSettings
from foreword.training.from_scratch.build_base import train_base
from foreword.training.from_scratch.language_model import LanguageModel, Line, base_trial, dev_loss, weigh
from foreword.training.loop import Trial

LINES = [
    Line.of((5, 6, 7) if i % 3 else (), [10 + (i * j) % 9 for j in range(1, 3 + i % 5)], (30 + i % 2, 2))
    for i in range(24)
]


def training(**settings: object) -> Trial:
    torch.manual_seed(0)
    model = RecurrentForCausalLM(RecurrentConfig(40, hidden_size=16, dropout=0.2)).eval()
    wanted = BaseSettings(**{"batch_size": 8, "num_train_epochs": 3.0, "learning_rate": 1e-2, **settings})  # type: ignore[arg-type]
    return base_trial(model, LINES, LINES[:6], wanted, 0)


def weights(trial: Trial) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trial.model.state_dict().items()}


def trained(trial: Trial, folder: Path) -> list[dict[str, float]]:
    events: list[dict[str, float]] = []
    train_base(trial, folder, lambda done, total, **figures: events.append(figures))
    return [event for event in events if event]


def test_losses_are_those_of_text_and_answer_and_not_of_the_lead() -> None:
    trial = training()
    objective = trial.objective
    assert isinstance(objective, LanguageModel)
    with torch.no_grad():
        text, answer = objective.parts(trial.model, LINES)
        for line in LINES[:4]:
            ids = torch.tensor([[*line.lead, *line.input_ids, *line.target_ids]])
            plain = -trial.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            begin = max(0, len(line.lead) - 1)
            end = len(line.lead) + len(line.input_ids) - 1
            own_text, own_answer = objective.parts(trial.model, [line])
            torch.testing.assert_close(own_text, plain[begin:end], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(own_answer, plain[end:], atol=1e-5, rtol=1e-4)
    # Without a lead nothing stands before the first token.
    assert len(text) == sum(len(line.input_ids) - (not line.lead) for line in LINES)
    assert len(answer) == 2 * len(LINES)


def test_texts_and_answers_weigh_the_same() -> None:
    text, answer = weigh(LINES)
    texts = sum(len(line.input_ids) - (not line.lead) for line in LINES)
    answers = sum(len(line.target_ids) for line in LINES)
    assert text * texts == pytest.approx(answer * answers)
    trial = training()
    objective = trial.objective
    assert isinstance(objective, LanguageModel)
    with torch.no_grad():
        parts = objective.parts(trial.model, LINES)
    both = float(sum(part.mean() for part in parts))
    weighed = torch.cat([part * share for part, share in zip(parts, (text, answer), strict=True)])
    assert float(weighed.mean()) == pytest.approx(both, rel=1e-5)


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    trial = training(num_train_epochs=8.0, early_stopping_patience=0)
    events = trained(trial, tmp_path)
    losses = [event["loss"] for event in events if "loss" in event]
    assert len(losses) == trial.total == 24
    assert losses[-1] < losses[0]
    assert trial.progress.best is not None
    scores = [event.score.loss for event in trial.progress.evaluations]
    assert trial.progress.best.loss == min(scores)
    assert isinstance(trial.objective, LanguageModel)
    again = dev_loss(trial.model, trial.objective, LINES[:6], 8)
    assert again == pytest.approx(trial.progress.best.loss, abs=1e-6)
    assert not trial.model.training


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stopped_training_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole = training()
    trained(whole, tmp_path / "whole")
    first = training()
    with pytest.raises(KeyboardInterrupt):
        train_base(first, tmp_path / "part", lambda *_, **__: None, lambda: first.progress.step == stop)
    second = training()
    trained(second, tmp_path / "part")
    assert second.progress == whole.progress
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(second).items())


def test_dropout_differs_from_epoch_to_epoch() -> None:
    trial = training()
    rows = [[trial.course.row_at(0, epoch, index) for index in range(8)] for epoch in (0, 0, 1)]
    with torch.no_grad():
        first, again, later = (trial.objective.outputs(trial.model, batch).values for batch in rows)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_early_stopping(tmp_path: Path) -> None:
    trial = training(learning_rate=5.0, num_train_epochs=20.0, early_stopping_patience=1)
    trained(trial, tmp_path)
    assert trial.progress.stopped
    assert trial.progress.step < trial.total


def test_what_is_not_a_number_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        trained(training(learning_rate=1e36), tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trial" / "checkpoint.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"no")
    with pytest.raises(ResumeError, match="checkpoint"):
        trained(training(), tmp_path)
