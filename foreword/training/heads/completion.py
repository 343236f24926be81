"""Generation: the text that is to be written, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.base.architecture import Kind
from foreword.core.base.device import sent
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import completion_losses, completion_word_log_probs, likeliest_words
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.training.heads.base import Answer, Asked, Head, Outputs, Soft, divergence, fill_of


@dataclass(frozen=True)
class Complete(Head):
    """Generation: every token of the completion, its end included, given what stands before it."""

    fill: int
    lead: tuple[int, ...] = ()

    name: ClassVar[str] = "completion"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "generation" and not task.plain

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        return cls(fill_of(tokenizer))

    @classmethod
    def tried(cls) -> Sequence[Self]:
        return (cls(0),)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("decoder", "encoder-decoder")

    @property
    def reads_the_end(self) -> bool:
        return True

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """-log p of every token that is learned ``[N]``."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        learned = [e.learned for e in batch]
        losses, rows = completion_losses(model, inputs, [e.target_ids for e in batch], self.fill, learned)
        return Outputs(losses, rows, sizes=tuple(map(len, learned)))

    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """The text that the model writes, with the likelihood of the right one where every row has it."""
        likelihood: Sequence[tuple[float, int] | None] = [None] * len(batch)
        if all(row.target_ids for row in batch):
            likelihood = self._likelihood(self.passed(asked, batch), batch)
        written = asked.write([(*self.lead, *row.input_ids) for row in batch])
        return [
            Answer(text, tokens=tokens, gold=gold) for (text, tokens), gold in zip(written, likelihood, strict=True)
        ]

    def taught(self, asked: Asked, batch: Sequence[Example], k: int) -> list[Soft]:
        inputs, targets = [(*self.lead, *row.input_ids) for row in batch], [row.target_ids for row in batch]
        with torch.no_grad(), injected(asked.model, [asked.value]):
            words, logp = likeliest_words(asked.model, inputs, targets, k, self.fill, [row.learned for row in batch])
        sizes = [len(row.learned) for row in batch]
        return [Soft(*row) for row in zip(words.cpu().split(sizes), logp.cpu().split(sizes), strict=True)]

    def imitating(self, model: PreTrainedModel, batch: Sequence[Example], taught: Sequence[Soft]) -> Outputs:
        inputs, targets = [(*self.lead, *row.input_ids) for row in batch], [row.target_ids for row in batch]
        words = sent(torch.cat([one.words for one in taught]), model.device)
        learned = [row.learned for row in batch]
        logp, rows = completion_word_log_probs(model, inputs, targets, words, self.fill, learned)
        return Outputs(logp, rows, sizes=tuple(map(len, learned)))

    def divergences(self, found: Outputs, taught: Sequence[Soft], foreword: Foreword) -> Tensor:
        return divergence(sent(torch.cat([one.logp for one in taught]), found.values.device), found.values)

    def _likelihood(self, found: Outputs, batch: Sequence[Example]) -> list[tuple[float, int]]:
        """-log p of each row's completion and its tokens."""
        losses = found.values
        totals = torch.zeros(len(batch), device=losses.device).index_add(0, found.rows, losses).tolist()
        return [(total, len(row.learned)) for total, row in zip(totals, batch, strict=True)]

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return found.values
