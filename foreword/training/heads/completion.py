"""Generation: the text that is to be written, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.base.architecture import Kind
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import completion_losses
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.training.heads.base import Head, Outputs, fill_of


@dataclass(frozen=True)
class Complete(Head):
    """Generation: every token of the completion, its end included, given what stands before it."""

    fill: int
    lead: tuple[int, ...] = ()

    name: ClassVar[str] = "completion"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "generation"

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
        """-log p of every token ``[N]``."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        losses, rows = completion_losses(model, inputs, [e.target_ids for e in batch], self.fill)
        return Outputs(losses, rows, sizes=tuple(len(e.target_ids) for e in batch))

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return found.values
