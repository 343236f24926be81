"""What a search may be told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from foreword.errors import SettingsError
from foreword.settings.budget import budget_seconds
from foreword.settings.schema import Count, Whole
from foreword.settings.values import Range, settle

OPERATORS = ("rules", "propose", "edit", "swap", "shots", "words", "calibrate", "gepa")


@dataclass(frozen=True)
class SearchSettings:
    """How to search. Raises SettingsError for a value of the wrong type or out of range.

    Args:
        variants: a file of prompts to compare; None makes them from the task's own.
        rounds: rounds of proposing and racing; None: 3, or 0 with a file of variants, which are then all answered on
            every row.
        width: new variants a round at most.
        rows: rows to score on, at most; half of them are kept from the search. Dev's first, training rows after them.
        held: share of those rows that the search never sees.
        budget: time, such as ``10min``; None means no limit.
        evaluations: answers of the model at most; 0 means no limit.
        operators: how new variants are made; empty means every way that fits the task and the base.
        shots: most examples to put in front of a row.
        seed: of everything that is drawn.
    """

    variants: str | None = None
    rounds: Annotated[int | None, Range(least=0)] = None
    width: Count = 12
    rows: Annotated[int, Range(least=4)] = 200
    held: Annotated[float, Range(above=0, most=0.9)] = 0.5
    budget: str | None = None
    evaluations: Whole = 0
    operators: tuple[str, ...] = ()
    shots: Whole = 8
    seed: Whole = 13

    def __post_init__(self) -> None:
        settle(self)
        for name in self.operators:
            if name not in OPERATORS:
                raise SettingsError(
                    "no such way to make variants", where="operators", expected=", ".join(OPERATORS), received=name
                )
        if self.budget is not None:
            budget_seconds(self.budget)

    @property
    def planned_rounds(self) -> int:
        """How many rounds are played when nothing stops them."""
        if self.rounds is not None:
            return self.rounds
        return 3 if self.variants is None else 0

    @property
    def seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else budget_seconds(self.budget)

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
