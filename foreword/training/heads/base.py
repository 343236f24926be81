"""What a head is: what is asked of the model for a row, how it is scored, and how far it is from the answer.

A head knows token ids only: no method, no metric. ``lead`` stands in front of every input as tokens: the text prompt of
a text foreword, the tokenizer's BOS where nothing stands in front, and nothing where learned values do.

One pass of the model (``outputs``) may be shared by rows with different forewords; what is read out of it (``scores``,
``losses``) is each foreword's own, with its own trained weights where the head has some.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.base.architecture import Kind
from foreword.core.base.device import sent, tensor_on
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.errors import SettingsError
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


@dataclass(frozen=True)
class Asked:
    """What a head is asked with.

    Args:
        model: the base.
        value: the foreword in front; it is not in force yet.
        task: what is asked.
        write: token ids in, what the model writes behind each and how many tokens that has.
    """

    model: PreTrainedModel
    value: Foreword
    task: Task
    write: Callable[[Sequence[Sequence[int]]], Sequence[tuple[str, int]]]


@dataclass(frozen=True)
class Answer:
    """What the model says to one row.

    Args:
        output: the label, the tags with a space between, or the text.
        score: its log-probability; ``nan`` where that is not known.
        tokens: that were written, or read where nothing is written.
        scores: label -> log-probability, where the head chooses one.
        gold: -log p of the right answer and how many tokens (or words) it has, where the head can tell.
    """

    output: str
    score: float = math.nan
    tokens: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    gold: tuple[float, int] | None = None


@dataclass(frozen=True)
class Soft:
    """What a teacher says to one row: log p ``[N, K]`` of K words at each of N places, and which words these are ``[N,
    K]``. A classification has one place, and its words are the numbers of its classes."""

    words: Tensor
    logp: Tensor


class Objective(ABC):
    """Losses of a batch, in two steps: a pass of the model while the forewords are in force, and what is read from it.

    A subclass is a frozen dataclass with the fields ``fill`` (the padding id) and ``lead``.
    """

    lead: tuple[int, ...]

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
        moved: Self = replace(self, lead=tuple(lead))  # type: ignore[type-var]
        return moved


class Head(Objective):
    """The objective of a task, and how it answers. A subclass stands in a file of this folder."""

    name: ClassVar[str]
    # The values of the task's ``pooling`` that it reads; of a classification with a trained head only.
    poolings: ClassVar[tuple[str, ...]] = ()

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

    @abstractmethod
    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """What the model says to each row of ``batch``."""

    def taught(self, asked: Asked, batch: Sequence[Example], k: int) -> list[Soft]:
        """What the model, with its foreword in front, says to each row of ``batch``, for another foreword to learn: at
        most ``k`` words a place.

        Raises:
            SettingsError: such answers are not learned from a teacher.
        """
        raise SettingsError(
            "what a teacher says cannot be learned with this head",
            where="--task",
            expected="classification by label words, or generation",
            received=self.name,
        )

    def imitating(self, model: PreTrainedModel, batch: Sequence[Example], taught: Sequence[Soft]) -> Outputs:
        """One pass over the rows of ``batch``, for :meth:`divergences`."""
        return self.outputs(model, batch)

    def divergences(self, found: Outputs, taught: Sequence[Soft], foreword: Foreword) -> Tensor:
        """The Kullback-Leibler divergence from the teacher's words ``[N]``, one for each place of the rows."""
        raise NotImplementedError

    def passed(self, asked: Asked, batch: Sequence[Example]) -> Outputs:
        """One pass without gradients, with the foreword in front."""
        with torch.no_grad(), injected(asked.model, [asked.value]):
            return self.outputs(asked.model, batch)


class Chooser(Head):
    """A head that chooses between classes."""

    def weighted(self, weights: Sequence[float]) -> Self:
        """The same for training, with a weight a class in its losses.

        Raises:
            SettingsError: the head has no field ``weights``.
        """
        if "weights" not in {field.name for field in fields(self)}:  # type: ignore[arg-type]
            raise SettingsError("this head cannot weigh classes", where="class_weight", received=self.name)
        weighing: Self = replace(self, weights=tuple(weights))  # type: ignore[type-var]
        return weighing

    @abstractmethod
    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The logits ``[N, C]`` of the classes, or log p but for a constant of the row."""

    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """The most probable label of each row."""
        labels, logp = asked.task.labels, self.logp(self.passed(asked, batch), asked.value).tolist()
        answers = []
        for row, scores in zip(batch, logp, strict=True):
            best = max(range(len(scores)), key=scores.__getitem__)
            by_label = dict(zip(labels, scores, strict=True))
            answers.append(Answer(labels[best], scores[best], len(row.input_ids), by_label))
        return answers

    def taught(self, asked: Asked, batch: Sequence[Example], k: int) -> list[Soft]:
        logp = self.logp(self.passed(asked, batch), asked.value).float().cpu()
        return [Soft(torch.arange(logp.shape[1])[None], row[None]) for row in logp]

    def divergences(self, found: Outputs, taught: Sequence[Soft], foreword: Foreword) -> Tensor:
        scores = self.scores(found, foreword).log_softmax(-1)
        return divergence(sent(torch.cat([one.logp for one in taught]), scores.device), scores)

    def logp(self, found: Outputs, foreword: Foreword) -> Tensor:
        """log p of the classes ``[N, C]``."""
        with torch.no_grad():
            return self.scores(found, foreword).log_softmax(-1)


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


def divergence(taught: Tensor, said: Tensor) -> Tensor:
    """The Kullback-Leibler divergence ``[N]`` of K words, and of all others as one, of log p ``[N, K]`` each."""
    share = taught.exp()
    left, other = (1 - share.sum(-1)).clamp(min=0), (1 - said.exp().sum(-1)).clamp(min=1e-6)
    rest = torch.where(left > 1e-6, left * (left.clamp(min=1e-6).log() - other.log()), 0.0)
    return (share * (taught - said)).sum(-1) + rest


def fill_of(tokenizer: Tokenizer) -> int:
    """The id that pads a batch."""
    return int(tokenizer.pad_token_id or 0)


def one_a_row(values: Tensor, choices: tuple[tuple[int, ...], ...] = ()) -> Outputs:
    """The outputs of rows that have one value each, ``values`` ``[B, ...]``."""
    return Outputs(values, torch.arange(len(values), device=values.device), choices, (1,) * len(values))


def cross_entropy(scores: Tensor, batch: Sequence[Example], weights: Sequence[float] = ()) -> Tensor:
    """-log p of each row's class ``[B]``, of scores ``[B, C]``; times the class's weight, where there are weights."""
    gold = tensor_on([e.gold for e in batch], scores.device)
    losses = nn.functional.cross_entropy(scores, gold, reduction="none")
    return losses * tensor_on([weights[e.gold] for e in batch], losses.device, losses.dtype) if weights else losses
