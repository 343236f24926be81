"""A variant: one way to ask, as a value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from foreword.data.row import Row, references
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.tokenize import completion


@dataclass(frozen=True)
class Variant:
    """What is asked of the model.

    Args:
        guidance: the instruction in front of the row.
        template: Jinja2 source of the row.
        labels: label -> the words that stand for it, as in a task's verbalizer; empty for generation.
        examples: ids of training rows that are shown with their answers, between the instruction and the row.
        calibrate: whether what the model prefers without any input is taken off the labels' scores.
        name: for people; unique in a search.
        origin: who made it: ``user``, ``file``, or the operator's name.
        parent: the name of the variant that it was made from; "" for none.
        change: what was changed, in a few words.
    """

    guidance: str
    template: str
    labels: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    calibrate: bool = False
    name: str = ""
    origin: str = "user"
    parent: str = ""
    change: str = ""

    @classmethod
    def of(cls, task: Task, name: str, **more: Any) -> Variant:
        """What a task asks."""
        asked = {"calibrate": bool(task.calibration), **more}
        return cls(task.guidance, task.template, dict(task.verbalizer), name=name, **asked)

    @property
    def key(self) -> str:
        """16 hex digits of what the model is asked: two variants with one key are the same prompt."""
        asked = [self.guidance, self.template, list(self.labels.items()), list(self.examples), self.calibrate]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()[:16]

    def made(self, origin: str, change: str, **parts: Any) -> Variant:
        """A child of this variant with other parts; named later."""
        return replace(self, origin=origin, parent=self.name, change=change, name="", **parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives an equal variant back."""
        return {**self.__dict__, "labels": dict(self.labels), "examples": list(self.examples)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Variant:
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "labels": dict(data["labels"]), "examples": tuple(data["examples"])})

    def asked(self, task: Task, shown: Mapping[str, Row]) -> Task:
        """The task with this variant's words; its guidance holds the examples, too.

        Args:
            shown: id -> training row, of the examples at least.
        """
        text = self.guidance + examples_text(replace_words(task, self), [shown[name] for name in self.examples])
        return replace(replace_words(task, self), guidance=text)


def replace_words(task: Task, variant: Variant) -> Task:
    """The task with the variant's template and label words, without its guidance and without calibration."""
    labels = dict(variant.labels)
    more = task.more_words if labels == task.verbalizer else {}
    return replace(task, template=variant.template, verbalizer=labels, more_words=more, guidance="", calibration={})


def examples_text(task: Task, rows: Sequence[Row]) -> str:
    """Rows with their answers as they stand in front of another row, an empty line between them."""
    template, text = parsed(task.template), ""
    for row in rows:
        text += template.render(row.fields) + _answer(task, references(row.fields.get(task.target))) + "\n\n"
    return text


def _answer(task: Task, found: Sequence[str]) -> str:
    """What stands behind a row that is shown: a label's words (or several labels', or those for none), or the text."""
    if task.kind == "multilabel":
        return ",".join(task.verbalizer.get(label, "") for label in found) or task.absent
    if not found:
        return ""
    return task.verbalizer.get(found[0], "") if task.verbalizer else completion(task, found[0])


def named(variants: Sequence[Variant], taken: Sequence[str], prefix: str) -> list[Variant]:
    """The variants with names of their own: what the user called them, or ``prefix`` and a number that is free."""
    used = {*taken, *(variant.name for variant in variants)}
    numbers = (f"{prefix}{number}" for number in count(1))
    return [
        variant if variant.name and variant.name not in taken else replace(variant, name=_free(numbers, used))
        for variant in variants
    ]


def _free(names: Iterator[str], used: set[str]) -> str:
    return next(name for name in names if name not in used)


def distinct(variants: Sequence[Variant], seen: set[str]) -> list[Variant]:
    """The variants whose prompt was not seen before; ``seen`` keys are added to."""
    out = []
    for variant in variants:
        if variant.key not in seen:
            seen.add(variant.key)
            out.append(variant)
    return out
