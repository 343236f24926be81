"""What fits the budget: how many rates, seeds, epochs and rows, cut down by stated rules, in a stated order.

Three seeds or one: with three methods and 1,000 rows two seeds show a difference of 7.6 points, three of 5.6
(``planned_detectable``); one training shows 4.7, but of that training alone, and is told to be one. So seeds are the
last but one that is cut, and never to two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.methods.base import registry
from foreword.progress import duration
from foreword.settings.schema import TrainSettings
from foreword.training.lr_search import planned_steps
from foreword.training.schedule import total_steps

# Work that is not timed beforehand: reading, saving.
_MORE = 1.15
# Answers to a row of dev or test, in time, of what comes behind the last training: the latency of a system, its rows
# one at a time; the neutral passages that each foreword is put in front of, and another task's rows.
_LATENCY, _PASSAGES = 30, 80
# Share of the budget and seconds for intervals and pages.
_SHARE, _SECONDS = 0.03, 5.0
CURVE = (0.125, 0.25, 0.5)
"""Shares of the rows that a learning curve adds."""


GAIN = 1.1
"""How many times as fast seeds have to train side by side for the plan to do it; below it is the noise of a timing."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one method on this machine: an optimizer step, and one row answered; ``gain``: how many times as fast
    the steps of two seeds are when they share their passes (1 where that was not tried)."""

    step: float
    row: float
    gain: float = 1.0


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
        abreast: methods whose seeds train side by side.
        seconds: what it is expected to take.
        notes: what was cut down to fit, one sentence each.
    """

    rates: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    epochs: float
    rows: Mapping[str, int]
    abreast: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that are trained."""
        return tuple(self.rates)

    @property
    def waves(self) -> list[tuple[int, ...]]:
        """Seeds that are trained together: the first, which searches the rate, then two at a time."""
        return [self.seeds[:1], *(self.seeds[i : i + 2] for i in range(1, len(self.seeds), 2))]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives an equal plan back."""
        values = asdict(self)
        values["rates"] = {name: list(rates) for name, rates in self.rates.items()}
        lists = {name: list(values[name]) for name in ("seeds", "abreast", "notes")}
        return {**values, **lists}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`to_json`."""
        rates = {name: tuple(found) for name, found in values["rates"].items()}
        lists = {name: tuple(values.get(name, ())) for name in ("seeds", "abreast", "notes")}
        return cls(**{**values, "rates": rates, **lists})


def training_seconds(
    plan: Plan, method: str, cost: Cost, settings: TrainSettings, first: bool, beside: int = 1
) -> float:
    """One training of a method with its evaluations on dev and test; the first one searches the rate.

    Args:
        beside: how many seeds are trained together, this one included.
    """
    chosen = replace(settings, num_train_epochs=plan.epochs)
    total = total_steps(plan.rows["train"], chosen)
    rates = len(plan.rates[method]) if first else 1
    epochs = max(1, math.ceil(plan.epochs))
    # A search evaluates every rate at the first rung and most of them at the second.
    evaluations = epochs + (2 * rates if rates > 1 else 0)
    step = cost.step / (cost.gain if beside > 1 and method in plan.abreast else 1.0)
    return planned_steps(total, rates) * step + cost.row * (evaluations * plan.rows["dev"] + plan.rows["test"])


def wave_seconds(
    plan: Plan, costs: Mapping[str, Cost], settings: TrainSettings, number: int, at_once: int = 1
) -> float:
    """Seconds of the trainings of a wave, of which so many are done at once."""
    seeds = len(plan.waves[number])
    each = [training_seconds(plan, m, costs[m], settings, number == 0, seeds) for m in plan.methods]
    longest = [one * (seeds if m in plan.abreast else 1) for m, one in zip(plan.methods, each, strict=True)]
    return max(max(longest, default=0.0), seeds * sum(each) / at_once)


def estimate(plan: Plan, costs: Mapping[str, Cost], settings: TrainSettings, size: Size, at_once: int = 1) -> float:
    """Seconds of the whole plan."""
    row = min((cost.row for cost in costs.values()), default=0.0)
    seconds = row * (size.prompts * plan.rows["dev"] + 3 * plan.rows["test"])
    seconds += sum(wave_seconds(plan, costs, settings, number, at_once) for number in range(len(plan.waves)))
    if size.curve and plan.methods:
        dearest = max(costs[method].step for method in plan.methods)
        for share in CURVE:
            rows = max(1, int(share * plan.rows["train"]))
            seconds += total_steps(rows, replace(settings, num_train_epochs=plan.epochs)) * dearest
            seconds += row * (max(1, math.ceil(plan.epochs)) * plan.rows["dev"] + plan.rows["test"])
    tail = tail_seconds(0.0, row, len(plan.methods) + 5, len(plan.methods))
    return seconds * _MORE + tail


def tail_seconds(budget: float, row: float, systems: int, forewords: int) -> float:
    """Seconds of what comes behind the last training: latencies, retention, intervals, the page.

    Args:
        budget: seconds of the whole.
        row: seconds of an answer.
        systems: that are timed.
        forewords: that are put in front of other text.
    """
    return _SHARE * budget + min(_SECONDS, 0.1 * budget) + row * (_LATENCY * systems + _PASSAGES * (forewords + 1))


def make_plan(
    rates: Mapping[str, tuple[float, ...]],
    costs: Mapping[str, Cost],
    settings: TrainSettings,
    size: Size,
    budget: float,
    seeds: int | None,
    at_once: int = 1,
) -> Plan:
    """The largest plan that fits; where not even the smallest one does, without the dearest methods.

    Args:
        rates: method -> every rate that it would try.
        seeds: as the user said; None: 3, or 1.
        at_once: trainings at a time, on machines like this one.

    Raises:
        SettingsError: even the smallest does not fit; says what would.
    """
    try:
        return _largest(rates, costs, settings, size, budget, seeds, at_once)
    except SettingsError as refused:
        dearest = max(rates, key=lambda name: costs[name].step)
        fewer = {name: some for name, some in rates.items() if name != dearest}
        if not fewer:
            raise
        try:
            plan = make_plan(fewer, {name: costs[name] for name in fewer}, settings, size, budget, seeds, at_once)
        except SettingsError:
            raise refused from None
    return replace(plan, notes=(Message("{name} was left out to fit the budget", name=dearest), *plan.notes))


def _largest(
    rates: Mapping[str, tuple[float, ...]], costs: Mapping[str, Cost], settings: TrainSettings, size: Size,
    budget: float, seeds: int | None, at_once: int,
) -> Plan:  # fmt: skip
    """The largest plan with all methods. Raises SettingsError."""
    whole = _whole(rates, costs, settings, size, 3 if seeds is None else seeds)
    most: dict[str, float] = {}

    def made(limits: Mapping[str, float]) -> Plan:
        plan = _cut(whole, limits, seeds is None)
        return replace(plan, seconds=round(estimate(plan, costs, settings, size, at_once), 1))

    plan = made(most)
    for what, limit in (*_CUTS, (None, 0)):
        if plan.seconds <= budget:
            return _given_back(made, most, budget)
        if what is not None:
            most[what] = limit
            plan = made(most)
    alone = {m: estimate(replace(plan, rates={m: plan.rates[m]}), costs, settings, size, at_once) for m in costs}
    fitting = [f"--methods {m} ({duration(seconds)})" for m, seconds in alone.items() if seconds <= budget]
    cut = "; ".join(plan.notes) or "nothing to cut down"
    raise SettingsError(
        "the comparison does not fit the budget",
        where="--budget",
        expected=Message("at least {duration} on this machine ({cut})", duration=duration(plan.seconds), cut=cut),
        received=duration(budget),
        hint=f"--budget {math.ceil(plan.seconds / 60)}min" + (f", or {', or '.join(fitting)}" if fitting else ""),
    )


def _whole(
    rates: Mapping[str, tuple[float, ...]], costs: Mapping[str, Cost], settings: TrainSettings, size: Size, seeds: int
) -> Plan:
    """The plan before anything is cut: every rate, seed, epoch and row."""
    together = {
        "auto": [name for name in rates if costs[name].gain >= GAIN],
        "on": [name for name in rates if registry()[name].per_row],
        "off": [],
    }[settings.side_by_side]
    rows = {"train": size.train, "dev": size.dev, "test": size.test}
    run_seeds = tuple(settings.seed + number for number in range(seeds))
    return Plan(rates, run_seeds, settings.num_train_epochs, rows, tuple(together))


_CUTS: list[tuple[str, float]] = [
    ("rates", 3), ("dev", 500), ("test", 1000), ("rates", 2), ("train", 1000), ("dev", 300), ("test", 500),
    ("train", 500), ("epochs", 2), ("dev", 200), ("test", 300), ("rates", 1), ("train", 250), ("dev", 100),
    ("epochs", 1), ("seeds", 1), ("train", 120),
]  # fmt: skip
"""What is cut to how many, in this order, until the plan fits."""


def _given_back(made: Callable[[Mapping[str, float]], Plan], most: Mapping[str, float], budget: float) -> Plan:
    """The plan cut to ``most``, with what fits again, the last cut first: what made it fit may have been more than was
    needed."""
    plan, kept = made(most), dict(most)
    for place in reversed(range(len(_CUTS))):
        what, limit = _CUTS[place]
        if kept.get(what) != limit:
            continue
        before = next((least for name, least in reversed(_CUTS[:place]) if name == what), math.inf)
        larger = made({**kept, what: before})
        if larger.seconds <= budget:
            plan, kept = larger, {**kept, what: before}
    return plan


def _cut(whole: Plan, most: Mapping[str, float], fewer_seeds: bool) -> Plan:
    """The plan with at most so many of everything; says what was cut."""
    plan, notes = whole, []
    for what, limit in most.items():
        before = plan
        if limit == math.inf:
            continue
        if what == "rates":
            plan = replace(plan, rates={name: found[: int(limit)] for name, found in plan.rates.items()})
        elif what == "seeds" and fewer_seeds:
            plan = replace(plan, seeds=plan.seeds[: int(limit)])
        elif what == "epochs":
            plan = replace(plan, epochs=min(plan.epochs, limit))
        elif what in plan.rows:
            plan = replace(plan, rows={**plan.rows, what: min(plan.rows[what], int(limit))})
        notes += [_note(what, limit)] if plan != before else []
    return replace(plan, notes=tuple(notes))


def _note(what: str, most: float) -> str:
    counted = f"{most:g}"
    forms = {
        "rates": Message("{n} learning rate{n!p} a method to fit the budget", n=counted),
        "seeds": Message("{n} seed{n!p} to fit the budget", n=counted),
        "epochs": Message("{n} epoch{n!p} to fit the budget", n=counted),
        "train": Message("{n} training rows to fit the budget", n=counted),
        "dev": Message("{n} dev rows to fit the budget", n=counted),
        "test": Message("{n} test rows to fit the budget", n=counted),
    }
    return forms[what]
