"""A task that a tiny random model can learn in a few steps: which of two tokens stands in a row."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example
from foreword.settings.schema import TrainSettings
from foreword.testing.method_contracts import behind, tiny, writer_for
from foreword.training.loop import Score, Trial
from foreword.training.objective import Choose

OBJECTIVE = Choose(((40, 41), (50,)), 0)


def make_rows(count: int, seed: int = 0) -> list[Example]:
    dice = random.Random(seed)
    out = []
    for i in range(count):
        gold = i % 2
        ids = [dice.randrange(100, 120) for _ in range(dice.randrange(2, 7))]
        ids.insert(dice.randrange(len(ids)), 10 + 20 * gold)
        out.append(Example(f"row{i}", tuple(ids), (), gold, "ab"[gold]))
    return out


def slotted(value: Foreword, rows: list[Example]) -> list[Example]:
    """The rows with a place for each soft slot of ``value``, if it has some."""
    return [replace(row, input_ids=tuple(behind(value, torch.tensor([row.input_ids]))[0].tolist())) for row in rows]


class Bench:
    """Makes trials on one tiny Llama; every trial starts from the same values."""

    def __init__(self) -> None:
        self.model = tiny("llama")
        self.rows, self.dev = make_rows(22), make_rows(12, seed=1)
        self.objective = OBJECTIVE

    def score(self, value: Foreword) -> Score:
        with torch.no_grad(), injected(self.model, [value]):
            found = self.objective.outputs(self.model, slotted(value, self.dev))
            logp = self.objective.scores(found, value).log_softmax(-1)
        gold = torch.tensor([e.gold for e in self.dev])
        picked = logp.argmax(-1)
        loss = float(-logp[torch.arange(len(gold)), gold].mean())
        return Score(float((picked == gold).float().mean()), loss, len(set(picked.tolist())) == 1)

    def trial(
        self,
        rate: float = 5e-2,
        evaluate_at: frozenset[int] = frozenset(),
        *,
        method: str = "prefix",
        evaluate: Callable[[Foreword], Score] | None = None,
        **settings: object,
    ) -> Trial:
        wanted = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "early_stopping_patience": 0, **settings}
        made = TrainSettings(**wanted)  # type: ignore[arg-type]
        writer = writer_for(method, self.model)
        rows = slotted(writer.write().detach(), self.rows)
        trial = Trial(self.model, writer, self.objective, rows, made, rate, evaluate or self.score)
        trial.evaluate_at = evaluate_at
        return trial


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trials"
