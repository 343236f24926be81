"""Tagging by trained weights on the state of each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.base.device import tensor_on
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import states_at
from foreword.data.task.tagging import OUTSIDE
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.training.heads.base import Answer, Asked, Chooser, Outputs, fill_of, linear


@dataclass(frozen=True)
class Tag(Chooser):
    """Tagging by a trained head on the last hidden state of each word's token; words that were cut off are left out."""

    fill: int
    lead: tuple[int, ...] = ()

    name: ClassVar[str] = "tags"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "tagging"

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        return cls(fill_of(tokenizer))

    @classmethod
    def tried(cls) -> Sequence[Self]:
        return (cls(0),)

    @property
    def trained(self) -> bool:
        return True

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """The states of the words ``[N, E]``, row by row."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        places = [[len(self.lead) + place for place in e.places if place >= 0] for e in batch]
        values, rows = states_at(model, inputs, places, self.fill)
        return Outputs(values, rows, sizes=tuple(len(some) for some in places))

    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """A tag for every word; one that was cut off is outside of everything (or has the first tag)."""
        found, labels = self.passed(asked, batch), asked.task.labels
        logp = self.logp(found, asked.value)
        outside = OUTSIDE if OUTSIDE in labels else labels[0]
        answers = []
        for number, row in enumerate(batch):
            lines = logp[found.rows == number]
            best = lines.max(-1)
            read = iter(best.indices.tolist())
            output = " ".join(outside if place < 0 else labels[next(read)] for place in row.places)
            tags = [tag for tag, place in zip(row.tags, row.places, strict=False) if place >= 0]
            right = [float(line[tag]) for line, tag in zip(lines, tags, strict=False) if tag >= 0]
            gold = (-sum(right), len(right)) if row.tags else None
            answers.append(Answer(output, float(best.values.sum()), len(row.input_ids), gold=gold))
        return answers

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The head's logits ``[N, C]``, one row a word."""
        return linear(found.values, foreword)

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """-log p of the tag of every word whose tag can be given ``[N]``."""
        tags = [tag for e in batch for tag, place in zip(e.tags, e.places, strict=True) if place >= 0]
        device, counted = found.values.device, [place for place, tag in enumerate(tags) if tag >= 0]
        scores = self.scores(found, foreword)
        if len(counted) < len(tags):
            scores = scores.index_select(0, tensor_on(counted, device, torch.long))
        gold = tensor_on([tags[place] for place in counted], device, torch.long)
        return nn.functional.cross_entropy(scores, gold, reduction="none")
