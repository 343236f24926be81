"""What a head is: what is asked of the model for a row, how it is scored, and how far it is from the answer.

A head knows token ids only: no method, no metric. ``lead`` stands in front of every input as tokens: the text prompt of
a text foreword, the tokenizer's BOS where nothing stands in front, and nothing where learned values do.

One pass of the model (``outputs``) may be shared by rows with different forewords; what is read out of it (``scores``,
``losses``) is each foreword's own, with its own trained weights where the head has some.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.base.architecture import Kind
from foreword.core.base.device import tensor_on
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.plugins import registered


@dataclass(frozen=True)
class Outputs:
    """What one pass of the model gives: ``values`` ``[N, ...]``, and the row of the batch each belongs to ``[N]``.

    A row has one value (scores of its choices, a pooled state) or several (one a token), in the order of the rows.
    ``choices`` names the columns of scores; ``sizes`` says how many values each row has, so that those of some rows are
    taken without asking the device.
    """

    values: Tensor
    rows: Tensor
    choices: tuple[tuple[int, ...], ...] = ()
    sizes: tuple[int, ...] | None = None

    def of(self, start: int, stop: int) -> Outputs:
        """What belongs to the rows ``start..stop``, counted from 0 again."""
        if self.sizes is not None:
            first, last = sum(self.sizes[:start]), sum(self.sizes[:stop])
            rows = self.rows[first:last] - start
            return Outputs(self.values[first:last], rows, self.choices, self.sizes[start:stop])
        chosen = (self.rows >= start) & (self.rows < stop)
        return Outputs(self.values[chosen], self.rows[chosen] - start, self.choices)


class Head(ABC):
    """Losses of a batch, in two steps: a pass of the model while the forewords are in force, and what is read from it.

    A subclass is a frozen dataclass in a file of this folder, with the fields ``fill`` (the padding id) and ``lead``.
    """

    name: ClassVar[str]
    # The values of the task's ``pooling`` that it reads; of a classification with a trained head only.
    poolings: ClassVar[tuple[str, ...]] = ()
    lead: tuple[int, ...]

    @classmethod
    @abstractmethod
    def suits(cls, task: Task) -> bool:
        """Whether it is the head of the task; every task has one."""

    @classmethod
    @abstractmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        """The task's head, with nothing in front yet. Raises VerbalizerError for words that cannot be told apart."""

    @classmethod
    @abstractmethod
    def tried(cls) -> Sequence[Self]:
        """Heads of this kind for the contract tests: token ids below 264, padding 0, the mask 259."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of base that it can be read of."""
        return ("decoder", "encoder")

    @property
    def trained(self) -> bool:
        """Whether it has weights of its own, the foreword's ``head``."""
        return False

    @property
    def reads_the_end(self) -> bool:
        """Whether it asks only what follows a row: it can be asked of the row's last part, behind the keys and values
        of the rest."""
        return False

    @abstractmethod
    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """One pass over the rows of ``batch``, whatever stands in front of each."""

    @abstractmethod
    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """One -log p for each unit that counts (a row, a word, or a token of a completion) ``[N]``, of rows behind
        ``foreword``."""

    def with_lead(self, lead: Sequence[int]) -> Self:
        """The same with other tokens in front."""
        made: Self = replace(self, lead=tuple(lead))  # type: ignore[type-var]
        return made


class Chooser(Head):
    """A head that chooses between classes."""

    @abstractmethod
    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The logits ``[N, C]`` of the classes, or log p but for a constant of the row."""


@cache
def registry() -> Mapping[str, type[Head]]:
    """Every head by its name: those of this folder, and those that other packages name under ``foreword.heads``.

    Raises:
        SettingsError: another package's entry point cannot be loaded, is no head, or takes a name that is taken.
    """
    return registered("foreword.heads", Head, "foreword.training.heads")  # type: ignore[type-abstract]


def linear(states: Tensor, foreword: Foreword) -> Tensor:
    """The logits ``[N, C]`` of a foreword's trained weights for states ``[N, E]``."""
    weight, bias = foreword.head["weight"], foreword.head["bias"]
    return states @ weight.to(states).T + bias.to(states)


def fill_of(tokenizer: Tokenizer) -> int:
    """The id that pads a batch."""
    return int(tokenizer.pad_token_id or 0)


def one_a_row(values: Tensor, choices: tuple[tuple[int, ...], ...] = ()) -> Outputs:
    return Outputs(values, torch.arange(len(values), device=values.device), choices, (1,) * len(values))


def cross_entropy(scores: Tensor, batch: Sequence[Example]) -> Tensor:
    gold = tensor_on([e.gold for e in batch], scores.device)
    return nn.functional.cross_entropy(scores, gold, reduction="none")
