"""What is asked of the model for a row, and how far it is from the answer.

An objective knows token ids only: no method, no metric. ``lead`` stands in front of every input as tokens: the text
prompt of a text foreword, the tokenizer's BOS where nothing stands in front, and nothing where learned values do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.forward import choice_scores, completion_losses, pooled_states
from foreword.core.value import Foreword
from foreword.data.batch import Example
from foreword.data.encoding import Tokenizer, label_ids
from foreword.data.task import Task


class Objective(Protocol):
    """Losses of a batch; called while the foreword is in force."""

    @property
    def lead(self) -> tuple[int, ...]: ...

    def losses(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """One -log p for each unit that counts (a row, or a token of a completion) ``[N]``."""
        ...

    def with_lead(self, lead: Sequence[int]) -> Objective:
        """The same with other tokens in front."""
        ...


@dataclass(frozen=True)
class Choose:
    """Classification by words: the choice's log-probability after the input, normalised over the choices.

    Args:
        choices: C token sequences, one a class.
        fill: the padding id.
        lead: ids in front of every input.
    """

    choices: tuple[tuple[int, ...], ...]
    fill: int
    lead: tuple[int, ...] = ()

    def scores(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """log p(choice | input) ``[B, C]``, not normalised."""
        return choice_scores(model, [(*self.lead, *e.input_ids) for e in batch], self.choices, self.fill)

    def losses(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        scores = self.scores(model, batch, foreword)
        return nn.functional.cross_entropy(scores, _gold(batch, scores), reduction="none")

    def with_lead(self, lead: Sequence[int]) -> Choose:
        return replace(self, lead=tuple(lead))


@dataclass(frozen=True)
class Classify:
    """Classification by a trained head on the pooled last hidden state of the content."""

    pooling: str
    fill: int
    lead: tuple[int, ...] = ()

    def scores(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """The head's logits ``[B, C]``."""
        states = pooled_states(model, [(*self.lead, *e.input_ids) for e in batch], self.pooling, self.fill)
        weight, bias = foreword.head["weight"], foreword.head["bias"]
        return states @ weight.to(states).T + bias.to(states)

    def losses(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        scores = self.scores(model, batch, foreword)
        return nn.functional.cross_entropy(scores, _gold(batch, scores), reduction="none")

    def with_lead(self, lead: Sequence[int]) -> Classify:
        return replace(self, lead=tuple(lead))


@dataclass(frozen=True)
class Complete:
    """Generation: every token of the completion, its end included, given what stands before it."""

    fill: int
    lead: tuple[int, ...] = ()

    def losses(self, model: PreTrainedModel, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return self.row_losses(model, batch)[0]

    def row_losses(self, model: PreTrainedModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """-log p of every token ``[N]`` and the row it belongs to ``[N]``."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        return completion_losses(model, inputs, [e.target_ids for e in batch], self.fill)

    def with_lead(self, lead: Sequence[int]) -> Complete:
        return replace(self, lead=tuple(lead))


def _gold(batch: Sequence[Example], scores: Tensor) -> Tensor:
    return torch.tensor([e.gold for e in batch], device=scores.device)


def make_objective(task: Task, tokenizer: Tokenizer) -> Choose | Classify | Complete:
    """The objective of a task, with nothing in front yet.

    Raises:
        VerbalizerError: label words that the tokenizer cannot tell apart.
    """
    fill = int(tokenizer.pad_token_id or 0)
    if task.kind == "generation":
        return Complete(fill)
    if task.head:
        return Classify(task.pooling, fill)
    return Choose(tuple(tuple(ids) for ids in label_ids(task, tokenizer)), fill)
