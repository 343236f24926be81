"""Plain text: every token given those before it; nothing is written to measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.training.heads.base import Answer, Asked
from foreword.training.heads.completion import Complete


@dataclass(frozen=True)
class Read(Complete):
    """Language modelling: the likelihood of texts; where there is none to measure, the model goes on with them."""

    name: ClassVar[str] = "plain_text"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "generation" and task.plain

    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """The likelihood of each row's text; what the model goes on with, where rows are not there to be measured."""
        if not all(row.target_ids for row in batch):
            return super().answers(asked, batch)
        likelihood = self._likelihood(self.passed(asked, batch), batch)
        return [Answer("", tokens=len(row.target_ids), gold=gold) for row, gold in zip(batch, likelihood, strict=True)]
