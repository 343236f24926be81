"""Learning from a teacher: a row's target is everything that the teacher finds likely there, not one right answer.

Knowledge distillation (Hinton et al. 2015) where teacher and student are one frozen base, with different things in
front of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example
from foreword.training.heads.base import Head, Objective, Outputs, Soft


class Taught:
    """What a teacher says to rows, by their ids. Two are the same only when they are one."""

    def __init__(self, rows: Mapping[str, Soft]) -> None:
        self._rows = dict(rows)

    def of(self, batch: Sequence[Example]) -> list[Soft]:
        """What it says to the rows of ``batch``."""
        return [self._rows[row.id] for row in batch]


@dataclass(frozen=True)
class Imitate(Objective):
    """The divergence of a head's distribution from the teacher's.

    Args:
        head: of the task.
        teacher: what is to be said to each row.
    """

    head: Head
    teacher: Taught
    lead: tuple[int, ...] = ()

    @property
    def reads_the_end(self) -> bool:
        return self.head.reads_the_end

    def with_lead(self, lead: Sequence[int]) -> Self:
        return replace(self, head=self.head.with_lead(lead), lead=tuple(lead))

    def outputs(self, model: PreTrainedModel, batch: Sequence[Example]) -> Outputs:
        return self.head.imitating(model, batch, self.teacher.of(batch))

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        return self.head.divergences(found, self.teacher.of(batch), foreword)
