"""How much the rows of each class count in the loss: as asked, or so that every class counts alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.errors import SettingsError
from foreword.messages import Message

BALANCED = "balanced"


def refuse_class_weight(asked: Mapping[str, str] | None, task: Task) -> None:
    """Refuse weights that a task cannot have.

    Raises:
        SettingsError: no classification with one label a row, an unknown label, or a weight that is no number above 0.
    """
    if asked is None:
        return
    if task.kind != "classification":
        hint = "leave class_weight out"
        raise SettingsError(
            "class weights are for a classification with one label a row",
            where="class_weight",
            received=task.kind,
            hint=hint,
        )
    for label, text in asked.items() if not is_balanced(asked) else ():
        if label not in task.labels:
            raise SettingsError(
                Message("class_weight names a label that is not there: {label!r}", label=label),
                where="class_weight",
                expected=", ".join(task.labels),
                received=label,
            )
        if not _number(text) > 0:
            expected = "`balanced`, or label=number with numbers above 0; labels that are not named count 1"
            raise SettingsError(
                "a class weight is a number above 0", where=f"class_weight.{label}", expected=expected, received=text
            )


def is_balanced(asked: Mapping[str, str]) -> bool:
    """Whether every class is to count alike."""
    return dict(asked) == {BALANCED: BALANCED}


def class_weights(asked: Mapping[str, str] | None, task: Task, rows: Sequence[Example]) -> tuple[float, ...]:
    """The weight of each label of the task; () where all count as they are.

    Balanced: rows / (classes in the rows * rows of the class), as in scikit-learn, so that the mean over the rows is 1.
    """
    if asked is None:
        return ()
    if not is_balanced(asked):
        return tuple(_number(asked.get(label, "1")) for label in task.labels)
    counts = Counter(row.gold for row in rows)
    return tuple(
        len(rows) / (len(counts) * counts[place]) if counts[place] else 1.0 for place in range(len(task.labels))
    )


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
