"""Classification by trained weights on one state of the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import pooled_states
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.training.heads.base import Chooser, Outputs, cross_entropy, fill_of, linear, one_a_row


@dataclass(frozen=True)
class Classify(Chooser):
    """Classification by a trained head on the pooled last hidden state of the content; ``weights`` are those of the
    classes in the losses ``[C]``, empty where all count alike."""

    pooling: str
    fill: int
    lead: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    name: ClassVar[str] = "pooled"
    poolings: ClassVar[tuple[str, ...]] = ("mean", "cls", "last")

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "classification" and task.head and task.pooling in cls.poolings

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        return cls(task.pooling, fill_of(tokenizer))

    @classmethod
    def tried(cls) -> Sequence[Self]:
        return [cls(pooling, 0) for pooling in cls.poolings]

    @property
    def trained(self) -> bool:
        return True

    @property
    def reads_the_end(self) -> bool:
        return self.pooling == "last"

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """The pooled states ``[B, E]``."""
        return one_a_row(pooled_states(model, [(*self.lead, *e.input_ids) for e in batch], self.pooling, self.fill))

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The head's logits ``[B, C]``."""
        return linear(found.values, foreword)

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return cross_entropy(self.scores(found, foreword), batch, self.weights)
