"""A base whose checkpoint ends in a classification head of its own: whether that is where the run's head starts."""

from __future__ import annotations

from torch import Tensor

from foreword.core.base.load import Base
from foreword.data.task.task import Task
from foreword.messages import Message


def own_start(task: Task, base: Base) -> tuple[Tensor, Tensor] | None:
    """The weight and bias that the head starts from: those of the base's own, in the order of the task's labels; None
    where it has none for these labels, or none that reads what the task's head reads."""
    head = base.own_head
    if head is None or head.weight is None or head.bias is None or not task.head or task.pooling != "last":
        return None
    rows = head.rows(task.labels) if task.has_labels else None
    return None if rows is None else (head.weight[rows], head.bias[rows])


def own_head_note(task: Task, base: Base) -> list[Message]:
    """What became of the base's own classification head, for people; nothing where it has none."""
    head = base.own_head
    if head is None or not task.head:
        return []
    if own_start(task, base) is not None:
        return [Message("the labels start from the base's own classification head")]
    if head.weight is None:
        return [
            Message("the base's own classification head has layers of its own and is left out: a new one is trained")
        ]
    if not task.has_labels or head.rows(task.labels) is None:
        form = "the base's own classification head has other labels ({names}): a new one is trained"
        return [Message(form, names=", ".join(head.labels[:8]))]
    form = "the base's own classification head reads the last state: with pooling=last the labels start from it"
    return [Message(form)]
