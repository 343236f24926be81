"""Classification by the words that the model says: behind a row, or at a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.base.architecture import Kind
from foreword.core.base.device import tensor_on
from foreword.core.inject.value import Foreword
from foreword.core.passes.masked_scores import masked_scores
from foreword.core.passes.scoring import choice_scores
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer, label_ids, mask_id
from foreword.training.heads.base import Chooser, Outputs, cross_entropy, fill_of, one_a_row


@dataclass(frozen=True)
class Choose(Chooser):
    """Classification by words: the choice's log-probability after the input, normalised over the choices.

    Args:
        choices: W token sequences, one or several a class.
        fill: the padding id.
        lead: ids in front of every input.
        owners: the class of each choice ``[W]``; empty: one a class, in order.
        prior: what is taken off each class's score ``[C]``: log p without any content (contextual calibration, Zhao et
            al. 2021, "Calibrate before use"); empty: nothing.
        weights: of the classes in the losses ``[C]``; empty: all count alike.
        mask: the mask's id, where a masked language model is asked at it; None: the choice follows the input.
    """

    choices: tuple[tuple[int, ...], ...]
    fill: int
    lead: tuple[int, ...] = ()
    owners: tuple[int, ...] = ()
    prior: tuple[float, ...] = ()
    mask: int | None = None
    weights: tuple[float, ...] = ()

    name: ClassVar[str] = "words"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "classification" and not task.head

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        words = label_ids(task, tokenizer)
        owners = tuple(number for number, some in enumerate(words) for _ in some)
        return cls(
            tuple(tuple(ids) for some in words for ids in some),
            fill_of(tokenizer),
            owners=owners if len(owners) > len(words) else (),
            prior=tuple(task.calibration[label] for label in task.labels) if task.calibration else (),
            mask=mask_id(tokenizer) if task.masked else None,
        )

    @classmethod
    def tried(cls) -> Sequence[Self]:
        long = ((5,), (6, 7), (8,))
        return (
            cls(((5,), (6,)), 0), cls(long, 0, owners=(0, 0, 1), prior=(0.5, 0.0)), cls(((5,), (6,)), 0, mask=259),
            cls(long, 0, owners=(0, 0, 1), mask=259),
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("decoder", "encoder-decoder") if self.mask is None else ("encoder",)

    @property
    def reads_the_end(self) -> bool:
        return self.mask is None

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        """log p(choice | input) ``[B, W]``, but for a constant of the row."""
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        if self.mask is not None:
            return one_a_row(masked_scores(model, inputs, self.choices, self.mask, self.fill), self.choices)
        return one_a_row(choice_scores(model, inputs, self.choices, self.fill, relative=True), self.choices)

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """log p(class | input) ``[B, C]``, but for a constant of the row.

        The pass may have scored other choices too. A class is as probable as all of its words together.
        """
        values = found.values
        if found.choices != self.choices:
            columns = [found.choices.index(choice) for choice in self.choices]
            values = values.index_select(1, tensor_on(columns, values.device))
        if self.owners:
            classes = range(max(self.owners) + 1)
            own = [[i for i, owner in enumerate(self.owners) if owner == number] for number in classes]
            parts = [values.index_select(1, tensor_on(places, values.device)) for places in own]
            values = torch.stack([part.logsumexp(1) for part in parts], 1)
        return values - tensor_on(self.prior, values.device, values.dtype) if self.prior else values

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return cross_entropy(self.scores(found, foreword), batch, self.weights)
