"""What is asked of the model for a row, and how far it is from the answer.

An objective knows token ids only: no method, no metric. ``lead`` stands in front of every input as tokens: the text
prompt of a text foreword, the tokenizer's BOS where nothing stands in front, and nothing where learned values do.

One pass of the model (``outputs``) may be shared by rows with different forewords; what is read out of it (``scores``,
``losses``) is each foreword's own, with its own head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.forward import choice_scores, completion_losses, pooled_states
from foreword.core.masked import masked_scores
from foreword.core.states import states_at
from foreword.core.value import Foreword
from foreword.data.batch import Example
from foreword.data.encoding import Tokenizer, label_ids, mask_id
from foreword.data.task import Task


@dataclass(frozen=True)
class Outputs:
    """What one pass of the model gives: ``values`` ``[N, ...]``, and the row of the batch each belongs to ``[N]``.

    A row has one value (scores of its choices, a pooled state) or several (one a token), in the order of the rows.
    ``choices`` names the columns of scores.
    """

    values: Tensor
    rows: Tensor
    choices: tuple[tuple[int, ...], ...] = ()

    def of(self, start: int, stop: int) -> Outputs:
        """What belongs to the rows ``start..stop``, counted from 0 again."""
        chosen = (self.rows >= start) & (self.rows < stop)
        return Outputs(self.values[chosen], self.rows[chosen] - start, self.choices)


class Objective(Protocol):
    """Losses of a batch, in two steps: a pass of the model while the forewords are in force, and what is read from
    it."""

    @property
    def lead(self) -> tuple[int, ...]: ...

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """One pass over the rows of ``batch``, whatever stands in front of each."""
        ...

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """One -log p for each unit that counts (a row, or a token of a completion) ``[N]``, of rows behind
        ``foreword``."""
        ...

    def with_lead(self, lead: Sequence[int]) -> Objective:
        """The same with other tokens in front."""
        ...


@dataclass(frozen=True)
class Choose:
    """Classification by words: the choice's log-probability after the input, normalised over the choices.

    Args:
        choices: W token sequences, one or several a class.
        fill: the padding id.
        lead: ids in front of every input.
        owners: the class of each choice ``[W]``; empty: one a class, in order.
        prior: what is taken off each class's score ``[C]``: log p without any content (contextual calibration, Zhao et
            al. 2021, "Calibrate before use"); empty: nothing.
        mask: the mask's id, where a masked language model is asked at it; None: the choice follows the input.
    """

    choices: tuple[tuple[int, ...], ...]
    fill: int
    lead: tuple[int, ...] = ()
    owners: tuple[int, ...] = ()
    prior: tuple[float, ...] = ()
    mask: int | None = None

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """log p(choice | input) ``[B, W]``, but for a constant of the row."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        if self.mask is not None:
            return _one_a_row(masked_scores(model, inputs, self.choices, self.mask, self.fill), self.choices)
        return _one_a_row(choice_scores(model, inputs, self.choices, self.fill, relative=True), self.choices)

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """log p(class | input) ``[B, C]``, but for a constant of the row.

        The pass may have scored other choices too. A class is as probable as all of its words together.
        """
        values = found.values
        if found.choices != self.choices:
            values = values[:, [found.choices.index(choice) for choice in self.choices]]
        if self.owners:
            classes = range(max(self.owners) + 1)
            own = [[i for i, owner in enumerate(self.owners) if owner == number] for number in classes]
            values = torch.stack([values[:, places].logsumexp(1) for places in own], 1)
        return values - values.new_tensor(self.prior) if self.prior else values

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return _cross_entropy(self.scores(found, foreword), batch)

    def with_lead(self, lead: Sequence[int]) -> Choose:
        return replace(self, lead=tuple(lead))


@dataclass(frozen=True)
class Classify:
    """Classification by a trained head on the pooled last hidden state of the content."""

    pooling: str
    fill: int
    lead: tuple[int, ...] = ()

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """The pooled states ``[B, E]``."""
        return _one_a_row(pooled_states(model, [(*self.lead, *e.input_ids) for e in batch], self.pooling, self.fill))

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The head's logits ``[B, C]``."""
        weight, bias = foreword.head["weight"], foreword.head["bias"]
        return found.values @ weight.to(found.values).T + bias.to(found.values)

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return _cross_entropy(self.scores(found, foreword), batch)

    def with_lead(self, lead: Sequence[int]) -> Classify:
        return replace(self, lead=tuple(lead))


@dataclass(frozen=True)
class Complete:
    """Generation: every token of the completion, its end included, given what stands before it."""

    fill: int
    lead: tuple[int, ...] = ()

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """-log p of every token ``[N]``."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        return Outputs(*completion_losses(model, inputs, [e.target_ids for e in batch], self.fill))

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return found.values

    def with_lead(self, lead: Sequence[int]) -> Complete:
        return replace(self, lead=tuple(lead))


@dataclass(frozen=True)
class Tag:
    """Tagging by a trained head on the last hidden state of each word's token; words that were cut off are left out."""

    fill: int
    lead: tuple[int, ...] = ()

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """The states of the words ``[N, E]``, row by row."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        places = [[len(self.lead) + place for place in e.places if place >= 0] for e in batch]
        return Outputs(*states_at(model, inputs, places, self.fill))

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The head's logits ``[N, C]``, one row a word."""
        weight, bias = foreword.head["weight"], foreword.head["bias"]
        return found.values @ weight.to(found.values).T + bias.to(found.values)

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """-log p of the tag of every word whose tag can be given ``[N]``."""
        tags = [tag for e in batch for tag, place in zip(e.tags, e.places, strict=True) if place >= 0]
        gold = torch.tensor(tags, device=found.values.device, dtype=torch.long)
        return nn.functional.cross_entropy(self.scores(found, foreword)[gold >= 0], gold[gold >= 0], reduction="none")

    def with_lead(self, lead: Sequence[int]) -> Tag:
        return replace(self, lead=tuple(lead))


def _one_a_row(values: Tensor, choices: tuple[tuple[int, ...], ...] = ()) -> Outputs:
    return Outputs(values, torch.arange(len(values), device=values.device), choices)


def _cross_entropy(scores: Tensor, batch: Sequence[Example]) -> Tensor:
    gold = torch.tensor([e.gold for e in batch], device=scores.device)
    return nn.functional.cross_entropy(scores, gold, reduction="none")


def reads_the_end(objective: Objective) -> bool:
    """Whether the objective asks only what follows a row: it can be asked of the row's last part, behind the keys and
    values of the rest."""
    if isinstance(objective, Choose):
        return objective.mask is None
    return isinstance(objective, Complete) or (isinstance(objective, Classify) and objective.pooling == "last")


def joined(objectives: Sequence[Objective]) -> Objective | None:
    """The objective, without a lead, whose one pass serves rows of all ``objectives``; None where there is none.

    Choices of different tasks are scored together and each task reads its own.
    """
    first, *others = [one.with_lead(()) for one in objectives]
    if all(one == first for one in others):
        return first
    choosing = [one for one in (first, *others) if isinstance(one, Choose)]
    if len(choosing) < len(objectives) or len({(one.fill, one.mask) for one in choosing}) > 1:
        return None
    return replace(choosing[0], choices=tuple(dict.fromkeys(choice for one in choosing for choice in one.choices)))


def make_objective(task: Task, tokenizer: Tokenizer) -> Choose | Classify | Complete | Tag:
    """The objective of a task, with nothing in front yet.

    Raises:
        VerbalizerError: label words that the tokenizer cannot tell apart.
    """
    fill = int(tokenizer.pad_token_id or 0)
    if task.kind == "generation":
        return Complete(fill)
    if task.kind == "tagging":
        return Tag(fill)
    if task.head:
        return Classify(task.pooling, fill)
    words = label_ids(task, tokenizer)
    owners = tuple(number for number, some in enumerate(words) for _ in some)
    return Choose(
        tuple(tuple(ids) for some in words for ids in some),
        fill,
        owners=owners if len(owners) > len(words) else (),
        prior=tuple(task.calibration[label] for label in task.labels) if task.calibration else (),
        mask=mask_id(tokenizer) if task.masked else None,
    )
