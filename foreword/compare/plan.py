"""What fits the budget: how many rates, seeds, epochs and rows, cut down by stated rules, in a stated order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from foreword.errors import SettingsError
from foreword.progress import duration
from foreword.settings import TrainSettings
from foreword.training.schedule import total_steps
from foreword.training.sweep import planned_steps

# Work that is not timed beforehand: reading, saving, latency, retention, reports.
_MORE = 1.15
CURVE = (0.125, 0.25, 0.5)
"""Shares of the rows that a learning curve adds."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one method on this machine: an optimizer step, and one row answered."""

    step: float
    row: float


@dataclass(frozen=True)
class Size:
    """How much there is: rows of each split, prompts that are tried on dev, and whether a curve is drawn."""

    train: int
    dev: int
    test: int
    prompts: int
    curve: bool = False


@dataclass(frozen=True)
class Plan:
    """What a comparison does.

    Args:
        rates: method -> the learning rates it tries with the first seed.
        seeds: of the trainings.
        epochs: passes over the training rows.
        rows: split -> rows that are used.
        seconds: what it is expected to take.
        notes: what was cut down to fit, one sentence each.
    """

    rates: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    epochs: float
    rows: Mapping[str, int]
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that are trained."""
        return tuple(self.rates)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives an equal plan back."""
        values = asdict(self)
        values["rates"] = {name: list(rates) for name, rates in self.rates.items()}
        return {**values, "seeds": list(self.seeds), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`to_json`."""
        rates = {name: tuple(found) for name, found in values["rates"].items()}
        return cls(**{**values, "rates": rates, "seeds": tuple(values["seeds"]), "notes": tuple(values["notes"])})


def training_seconds(plan: Plan, method: str, cost: Cost, settings: TrainSettings, size: Size, first: bool) -> float:
    """One training of a method with its evaluations on dev and test; the first one searches the rate."""
    chosen = replace(settings, num_train_epochs=plan.epochs)
    total = total_steps(plan.rows["train"], chosen)
    rates = len(plan.rates[method]) if first else 1
    epochs = max(1, math.ceil(plan.epochs))
    # A search evaluates every rate at the first rung and most of them at the second.
    evaluations = epochs + (2 * rates if rates > 1 else 0)
    return planned_steps(total, rates) * cost.step + cost.row * (evaluations * size.dev + plan.rows["test"])


def estimate(plan: Plan, costs: Mapping[str, Cost], settings: TrainSettings, size: Size) -> float:
    """Seconds of the whole plan."""
    row = min((cost.row for cost in costs.values()), default=0.0)
    seconds = row * (size.prompts * size.dev + 3 * plan.rows["test"])
    for method in plan.methods:
        later = training_seconds(plan, method, costs[method], settings, size, first=False)
        seconds += training_seconds(plan, method, costs[method], settings, size, first=True)
        seconds += (len(plan.seeds) - 1) * later
    if size.curve and plan.methods:
        dearest = max(costs[method].step for method in plan.methods)
        for share in CURVE:
            rows = max(1, int(share * plan.rows["train"]))
            seconds += total_steps(rows, replace(settings, num_train_epochs=plan.epochs)) * dearest
            seconds += row * (max(1, math.ceil(plan.epochs)) * size.dev + plan.rows["test"])
    return seconds * _MORE


def make_plan(
    rates: Mapping[str, tuple[float, ...]],
    costs: Mapping[str, Cost],
    settings: TrainSettings,
    size: Size,
    budget: float,
    seeds: int | None,
) -> Plan:
    """The largest plan that fits.

    Args:
        rates: method -> every rate that it would try.
        seeds: as the user said; None: 3, or fewer.

    Raises:
        SettingsError: even the smallest does not fit; says what would.
    """
    wanted = 3 if seeds is None else seeds
    plan = Plan(
        rates, tuple(settings.seed + place for place in range(wanted)), settings.num_train_epochs,
        {"train": size.train, "dev": size.dev, "test": size.test},
    )  # fmt: skip
    smallest = plan
    for smallest in _smaller(plan, seeds is None):
        seconds = estimate(smallest, costs, settings, size)
        if seconds <= budget:
            return replace(smallest, seconds=round(seconds, 1))
    needed = estimate(smallest, costs, settings, size)
    alone = {m: estimate(replace(smallest, rates={m: smallest.rates[m]}), costs, settings, size) for m in costs}
    fitting = [f"--methods {m} ({duration(seconds)})" for m, seconds in alone.items() if seconds <= budget]
    raise SettingsError(
        "the comparison does not fit the budget",
        where="--budget",
        expected=f"at least {duration(needed)} on this machine ({'; '.join(smallest.notes) or 'nothing to cut down'})",
        received=duration(budget),
        hint=f"--budget {math.ceil(needed / 60)}min" + (f", or {', or '.join(fitting)}" if fitting else ""),
    )


def _smaller(plan: Plan, fewer_seeds: bool) -> Iterator[Plan]:
    """The plan, then smaller and smaller ones; each says what was cut from the first."""
    yield plan
    cuts: list[tuple[str, float]] = [
        ("rates", 3), ("test", 1000), ("rates", 2), ("train", 1000), ("test", 500), ("seeds", 2), ("train", 500),
        ("epochs", 2), ("test", 300), ("rates", 1), ("train", 250), ("epochs", 1), ("seeds", 1), ("train", 120),
    ]  # fmt: skip
    notes: dict[str, str] = {}
    for what, most in cuts:
        before = plan
        if what == "rates":
            plan = replace(plan, rates={name: found[: int(most)] for name, found in plan.rates.items()})
        elif what == "seeds" and fewer_seeds:
            plan = replace(plan, seeds=plan.seeds[: int(most)])
        elif what == "epochs":
            plan = replace(plan, epochs=min(plan.epochs, most))
        elif what in plan.rows:
            plan = replace(plan, rows={**plan.rows, what: min(plan.rows[what], int(most))})
        if plan != before:
            notes[what] = _note(what, most)
            plan = replace(plan, notes=tuple(notes.values()))
            yield plan


def _note(what: str, most: float) -> str:
    counted = f"{most:g}"
    return {
        "rates": f"{counted} learning rate{'s' * (most > 1)} a method",
        "seeds": f"{counted} seed{'s' * (most > 1)}",
        "epochs": f"{counted} epoch{'s' * (most > 1)}",
        "train": f"{counted} training rows",
        "test": f"{counted} test rows",
    }[what] + " to fit the budget"
