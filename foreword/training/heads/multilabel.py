"""Several labels a row: each is said or not, by its words against those for no label, or by trained weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from foreword.core.base.device import tensor_on
from foreword.core.inject.value import Foreword
from foreword.data.task.label_sets import joined
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import Tokenizer
from foreword.training.heads.base import Answer, Asked, Chooser, Outputs, fill_of
from foreword.training.heads.pooled import Classify
from foreword.training.heads.words import Choose


class LabelSet(Chooser):
    """A head whose scores are one logit a label, each for itself."""

    def logp(self, found: Outputs, foreword: Foreword) -> Tensor:
        """log p that each label fits ``[B, C]``."""
        with torch.no_grad():
            return nn.functional.logsigmoid(self.scores(found, foreword))

    def losses(self, found: Outputs, batch: Sequence[Example], foreword: Foreword) -> Tensor:
        """-log p of each row's labels, those that it has and those that it has not ``[B]``."""
        scores = self.scores(found, foreword)
        gold = tensor_on([e.fits for e in batch], scores.device, scores.dtype)
        return nn.functional.binary_cross_entropy_with_logits(scores, gold, reduction="none").sum(1)

    def answers(self, asked: Asked, batch: Sequence[Example]) -> list[Answer]:
        """The labels of each row whose probability is above the task's threshold for it."""
        found = self.passed(asked, batch)
        with torch.no_grad():
            scores = self.scores(found, asked.value)
            fits, fails = nn.functional.logsigmoid(scores).tolist(), nn.functional.logsigmoid(-scores).tolist()
        labels = asked.task.labels
        limits = [torch.tensor(asked.task.threshold(label)).log().item() for label in labels]
        answers = []
        for row, yes, no in zip(batch, fits, fails, strict=True):
            said = [share > limit for share, limit in zip(yes, limits, strict=True)]
            output = joined(label for label, is_said in zip(labels, said, strict=True) if is_said)
            score = sum(y if is_said else n for y, n, is_said in zip(yes, no, said, strict=True))
            right = sum(y if fit else n for y, n, fit in zip(yes, no, row.fits, strict=True)) if row.fits else 0.0
            gold = (-right, len(labels)) if row.fits else None
            answers.append(Answer(output, score, len(row.input_ids), dict(zip(labels, yes, strict=True)), gold))
        return answers


@dataclass(frozen=True)
class LabelWords(LabelSet, Choose):
    """By words: p(label) = p(its words) / (p(its words) + p(the words for no label)), each label for itself, from one
    pass."""

    name: ClassVar[str] = "label_words"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "multilabel" and not task.head

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        whole = super().of(replace(task, calibration={}), tokenizer)
        return whole if whole.owners else replace(whole, owners=tuple(range(len(whole.choices))))

    @classmethod
    def tried(cls) -> Sequence[Self]:
        long = ((5,), (6, 7), (8,))
        return (cls(long, 0, owners=(0, 1, 2)), cls(long, 0, owners=(0, 1, 2), mask=259))

    def scores(self, found: Outputs, foreword: Foreword) -> Tensor:
        """The labels' logits ``[B, C]``: how much more likely their words are than those for no label."""
        values = Choose.scores(self, found, foreword)
        return values[:, :-1] - values[:, -1:]


@dataclass(frozen=True)
class LabelStates(LabelSet, Classify):
    """By trained weights on the pooled last hidden state, each label for itself."""

    name: ClassVar[str] = "label_states"

    @classmethod
    def suits(cls, task: Task) -> bool:
        return task.kind == "multilabel" and task.head and task.pooling in cls.poolings

    @classmethod
    def of(cls, task: Task, tokenizer: Tokenizer) -> Self:
        return cls(task.pooling, fill_of(tokenizer))
