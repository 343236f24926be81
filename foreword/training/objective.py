"""The head that a task is asked through, and which heads can share a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foreword.data.task.task import Task
from foreword.data.tokens.tokenize import Tokenizer
from foreword.errors import SettingsError
from foreword.training.heads.base import Head, Objective, Outputs, registry
from foreword.training.heads.completion import Complete
from foreword.training.heads.pooled import Classify
from foreword.training.heads.tags import Tag
from foreword.training.heads.words import Choose

__all__ = ["Choose", "Classify", "Complete", "Objective", "Outputs", "Tag", "joined", "make_objective"]


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


def make_objective(task: Task, tokenizer: Tokenizer) -> Head:
    """The head of a task, with nothing in front yet.

    Raises:
        SettingsError: there is no head for what the task says.
        VerbalizerError: label words that the tokenizer cannot tell apart.
    """
    for kind in registry().values():
        if kind.suits(task):
            return kind.of(task, tokenizer)
    raise SettingsError(
        "no head reads the states in this way",
        where="pooling",
        expected=", ".join(name for kind in registry().values() for name in kind.poolings),
        received=task.pooling,
    )
