"""What a comparison may be told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from foreword.settings.budget import budget_seconds
from foreword.settings.schema import Count, Whole
from foreword.settings.values import Range, settle


@dataclass(frozen=True)
class CompareOptions:
    """How to compare. Raises SettingsError for a value of the wrong type or out of range.

    Args:
        budget: time for everything: ``20min``, or ``light``, ``medium``, ``heavy``.
        methods: names of the methods to train; empty means all that fit the base and the task.
        seeds: trainings of each method; None: 3, fewer where the budget asks for it.
        level: 1 minus the error of a family of comparisons.
        margin: points below which two systems count as equally good.
        prompts: a file of prompts to choose the best from; None makes some from the task's own.
        shots: most examples in a few-shot prompt; 0: none is tried.
        curve: learn with an eighth, a quarter and a half of the rows as well.
        pool: a file of rows without labels: which of them to label next.
        label_next: how many of those are named.
        other: labelled rows of another task: what a foreword does to them.
        require: a result that must be met, such as ``prefix > prompt + 2`` (points).
        require_by: whether the interval's lower end has to meet it, or the figure alone.
        price_input, price_output: price of a million tokens read and written, in any currency.
    """

    budget: str = "medium"
    methods: tuple[str, ...] = ()
    seeds: Annotated[int | None, Range(least=1)] = None
    level: Annotated[float, Range(least=0.5, most=0.999)] = 0.95
    margin: Annotated[float, Range(above=0)] = 1.0
    prompts: str | None = None
    shots: Whole = 8
    curve: bool = False
    pool: str | None = None
    label_next: Count = 20
    other: str | None = None
    require: str | None = None
    require_by: Literal["interval", "estimate"] = "interval"
    price_input: Annotated[float | None, Range(least=0)] = None
    price_output: Annotated[float | None, Range(least=0)] = None

    def __post_init__(self) -> None:
        settle(self)
        budget_seconds(self.budget)

    @property
    def seconds(self) -> float:
        """The budget in seconds."""
        return budget_seconds(self.budget)

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> CompareOptions:
        """The inverse of :meth:`to_json`."""
        return cls(**{**values, "methods": tuple(values["methods"])})
