"""In which order rows are learned from, and how often: one epoch is one list of batches, made from its number alone."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example, batches, chunks, length_of
from foreword.errors import SettingsError

# How far a row may move from its place in an order by difficulty or length, as a share of all rows.
_NOISE = 0.1


@dataclass(frozen=True)
class TrainingRows:
    """What a trial learns from.

    Args:
        rows: the training rows as token ids.
        sampling: ``shuffle``: every row once an epoch, in any order. ``balanced``: as many draws as rows, each label
            equally often, so rows of rare labels come again. ``difficulty``: every row once, from the easiest to the
            hardest. ``length``: every row once, from the shortest to the longest.
        difficulty: of each row, for that order: the loss of the untrained model.
        vary: the row of an epoch and an index in another form, or None for the row as it is.
        seen: the row of a step (from 0) and an index in another form, whatever the epoch makes of it; or None.
    """

    rows: Sequence[Example]
    sampling: str = "shuffle"
    difficulty: Sequence[float] = ()
    vary: Callable[[int, int], Example | None] | None = None
    seen: Callable[[int, int], Example | None] | None = None

    def batches(self, size: int, seed: int, epoch: int) -> list[list[int]]:
        """Indices of the rows of one epoch, in batches; as many batches in every epoch."""
        if self.sampling == "shuffle":
            return batches(self.rows, size, seed=seed, epoch=epoch)
        dice = random.Random(f"{seed}/{epoch}/{self.sampling}")
        if self.sampling == "balanced":
            drawn = self._balanced(dice)
            inner = batches([self.rows[index] for index in drawn], size, seed=seed, epoch=epoch)
            return [[drawn[place] for place in batch] for batch in inner]
        keys = self.difficulty if self.sampling == "difficulty" else [length_of(row) for row in self.rows]
        order = sorted(range(len(self.rows)), key=lambda index: (keys[index], index))
        moved = sorted(range(len(order)), key=lambda place: place + dice.uniform(-1, 1) * _NOISE * len(order))
        return chunks([order[place] for place in moved], size)

    def row(self, epoch: int, index: int) -> Example:
        """A row as it is learned from in an epoch."""
        changed = None if self.vary is None else self.vary(epoch, index)
        return self.rows[index] if changed is None else changed

    def row_at(self, step: int, epoch: int, index: int) -> Example:
        """A row as a step of an epoch sees it."""
        seen = None if self.seen is None else self.seen(step, index)
        return self.row(epoch, index) if seen is None else seen

    def _balanced(self, dice: random.Random) -> list[int]:
        groups: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(self.rows):
            groups[row.gold].append(index)
        labels = sorted(groups)
        dice.shuffle(labels)
        drawn: list[int] = []
        for number, label in enumerate(labels):
            quota = len(self.rows) // len(labels) + (number < len(self.rows) % len(labels))
            members = groups[label]
            whole, rest = divmod(quota, len(members))
            drawn += members * whole + dice.sample(members, rest)
        return drawn


def refuse_sampling(sampling: str, task: Task) -> None:
    """Refuse an order that a task's rows do not have.

    Raises:
        SettingsError: ``balanced`` without labels a row, ``difficulty`` where only a trained head knows what is hard.
    """
    if sampling == "balanced" and task.kind != "classification":
        hint = "it draws each label equally often; use shuffle, difficulty or length"
        raise SettingsError("only a classification can be balanced", where="sampling", received=task.kind, hint=hint)
    if sampling == "difficulty" and task.head:
        hint = "difficulty is the untrained model's loss, and an untrained head knows nothing; use length"
        raise SettingsError("a task with a head has no order by difficulty", where="sampling", hint=hint)
