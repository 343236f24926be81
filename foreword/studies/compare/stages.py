"""The work of a comparison, part by part: each is done once, kept in a folder of its own, and read on resuming."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.messages import Message, restored, stored
from foreword.methods.base import Method
from foreword.progress import duration
from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.runs.train.interrupt import Interrupts
from foreword.runs.workers.pool import Workers, do_all
from foreword.runs.workers.worker import STATE
from foreword.settings.budget import Clock
from foreword.storage import write_atomically
from foreword.studies.compare.baselines import baselines
from foreword.studies.compare.deadline import Deadline
from foreword.studies.compare.decisions import Runs
from foreword.studies.compare.plan import (
    CURVE,
    Cost,
    Plan,
    Size,
    make_plan,
    tail_seconds,
    training_seconds,
    wave_seconds,
)
from foreword.studies.compare.remote_training import perform, task_of
from foreword.studies.compare.retention import behaviour
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.setup import planned_rows
from foreword.studies.compare.system_names import PROMPTS, system_of, title
from foreword.studies.compare.timing import measure
from foreword.studies.compare.trained_systems import Unit, keep, record, train_units
from foreword.studies.compare.untrained import Prompts, variants

_PLAN = "plan.json"
_TIMING = 0.15
"""Share of the budget for finding out how long everything takes."""


@dataclass
class Work:
    """What is done so far.

    Args:
        prepared: the base, the task and the rows; after :meth:`plan` only the rows of the plan.
        methods: name -> method, of those that may be trained.
        folder: of the comparison.
        clock: of the budget.
        workers: who carries out the trainings; None: this process.
        systems: system -> dev score and answers, in the order of the report.
        records: system -> what was recorded of it, a list for each seed.
        skipped: what was left out, and why, one sentence each.
    """

    prepared: Prepared
    methods: dict[str, Method]
    options: CompareOptions
    folder: Path
    clock: Clock
    interrupts: Interrupts
    workers: Workers | None = None
    systems: dict[str, Runs] = field(default_factory=dict)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def report(self) -> Callable[..., None]:
        """The progress of the user."""
        return self.prepared.request.progress or say_nothing

    @property
    def planned(self) -> bool:
        """Whether there is a plan already."""
        return (self.folder / _PLAN).exists()

    def spend(self) -> None:
        """Write down how much of the budget is gone, for a run that goes on after this one."""
        write_atomically(self.folder / "spent.json", [json.dumps({"seconds": round(self.clock.spent, 3)}).encode()])

    def plan(self, fixed: Plan | None = None) -> Plan:
        """The plan of this folder; made once, from real timings, unless one is given."""
        path = self.folder / _PLAN
        if self.planned:
            saved = json.loads(path.read_text(encoding="utf-8"))
        else:
            saved = self._made(fixed)
            write_atomically(path, [json.dumps(saved, ensure_ascii=False, indent=1).encode()])
        self.costs = {name: Cost(**cost) for name, cost in saved["costs"].items()}
        self.skipped += restored(saved["refused"])
        plan = Plan.from_json(saved["plan"])
        self.prepared = planned_rows(self.prepared, plan)
        return plan

    def _made(self, fixed: Plan | None) -> dict[str, Any]:
        settings = self.prepared.request.settings
        costs, refused = measure(
            self.prepared,
            self.methods,
            partial(self.report, "time each method"),
            self._patience(),
            _TIMING * self.options.seconds,
        )
        if not costs:
            raise SettingsError(
                "no method works here", received="; ".join(f"{name}: {why}" for name, why in refused.items())
            )
        sizes = {split: len(rows) for split, rows in self.prepared.examples.items()}
        prompts = 0 if self.prepared.task.head else sum(map(len, variants(self.prepared, self.options).values()))
        size = Size(sizes["train"], sizes["dev"], sizes["test"], prompts, self.options.curve)
        one = settings.learning_rate
        rates = {
            name: (one,) if one is not None else settings.sweep or self.methods[name].learning_rates for name in costs
        }
        left = self.options.seconds - self.clock.spent
        # Processes of this machine share its cores; those of a cluster bring their own.
        cluster = self.workers is not None and self.workers.ray not in (None, "local")
        at_once = self.workers.count if self.workers is not None and cluster else 1
        plan = fixed or make_plan(rates, costs, settings, size, left, self.options.seeds, at_once)
        return {
            "plan": plan.to_json(),
            "costs": {name: vars(cost) for name, cost in costs.items()},
            "refused": [
                stored(Message("{name} was left out: {why}", name=name, why=why)) for name, why in refused.items()
            ],
        }

    def _patience(self) -> float:
        """Seconds of a step up to which it is worth the time to see whether seeds are faster side by side."""
        wanted = self.prepared.request.settings.side_by_side == "auto" and (self.options.seeds or 3) > 2
        return 0.002 * self.options.seconds if wanted else 0.0

    def before(self) -> str:
        """What the base alone computed before anything was trained."""
        path = self.folder / "before.json"
        if not path.exists():
            write_atomically(path, [json.dumps({"behaviour": behaviour(self.prepared)}).encode()])
        return str(json.loads(path.read_text(encoding="utf-8"))["behaviour"])

    def reserve(self, plan: Plan) -> float:
        """Seconds that are kept for what comes behind the last training."""
        row = max((cost.row for cost in self.costs.values()), default=0.0)
        return tail_seconds(self.options.seconds, row, len(self.systems) + len(plan.methods), len(plan.methods))

    def untrained(self, plan: Plan) -> None:
        """Baselines, and the untrained model with its prompts; a choice of prompts that no longer fits is left out."""
        for name, make in baselines(self.prepared).items():
            self._untrained(name, make)
        if self.prepared.task.head:
            return
        prompts = Prompts.of(self.prepared, self.folder)
        choices = variants(self.prepared, self.options)
        first = 0.0
        for name in PROMPTS:
            expected = first * len(choices[name])
            late = not self.clock.allows(expected + self.reserve(plan))
            if late and name != next(iter(PROMPTS)) and record(self.folder / "systems" / name) is None:
                self.skipped.append(Message("{name} was left out: the budget was spent", name=title(name)))
                continue
            self._untrained(name, partial(prompts.best, choices[name]))
            if name in self.records:
                first = first or float(self.records[name][0]["seconds"])

    def _untrained(self, name: str, make: Callable[[], dict[str, Any] | None]) -> None:
        folder = self.folder / "systems" / name
        done = record(folder)
        if done is None:
            began = time.monotonic()
            made = make()
            done = {"absent": True} if made is None else {k: v for k, v in made.items() if k != "predictions"}
            for split, rows in (made or {}).get("predictions", {}).items():
                write_jsonl(folder / "predictions" / f"{split}.jsonl", rows)
                done["ms"] = sum(row.ms for row in rows) / max(1, len(rows))
            done = keep(folder, {**done, "seconds": round(time.monotonic() - began, 3)})
            self.spend()
        if "absent" in done:
            self.skipped.append(Message("{name}: no such prompt fits this base", name=name))
            return
        self.records[name] = [done]
        self.systems[name] = Runs(done["dev"], (tuple(read_jsonl(folder / "predictions" / "test.jsonl")),))

    def trained(self, plan: Plan) -> None:
        """Every method with its seeds, a wave of seeds of all before the next: what time ends early is still fair."""
        for number, seeds in enumerate(plan.waves):
            if number and not self._fits(plan, number):
                left = sum(map(len, plan.waves[number:]))
                self.skipped.append(
                    Message(
                        "{n} of {m} seeds were left out: the budget of {time} would not have held them",
                        n=left,
                        m=len(plan.seeds),
                        time=self._budget,
                    )
                )
                break
            groups = [group for name in plan.methods for group in self._groups(plan, name, seeds)]
            self.train(plan, groups)
            for unit in (unit for group in groups for unit in group):
                found = record(unit.folder)
                if found is not None:
                    self.records.setdefault(unit.system, []).append({**found, "seed": unit.seed})
        for name in plan.methods:
            self._gather(system_of(name))

    def _groups(self, plan: Plan, name: str, seeds: Sequence[int]) -> list[list[Unit]]:
        """The trainings of a method with these seeds: side by side where the plan says so and one rate is left."""
        system, before = system_of(name), self.records.get(system_of(name), [])
        if before and "failed" in before[0]:
            return []
        rates = plan.rates[name] if not before else (before[0]["learning_rate"],)
        units = [Unit(system, self.methods[name], seed, rates, self._place(name, seed)) for seed in seeds]
        return [units] if name in plan.abreast and len(rates) == 1 else [[unit] for unit in units]

    def train(self, plan: Plan, groups: Sequence[Sequence[Unit]]) -> None:
        """Carry out the trainings that are not there yet, those of a group side by side, here or by the workers.

        A training that no longer fits the budget is not begun, and one that is still at work when the time for it is
        over stops there; both are told in the report. Workers are asked between two waves only.
        """
        todo = [group for group in groups if any(record(unit.folder) is None for unit in group)]
        if self.workers is None:
            for group in todo:
                self._in_time(plan, group)
                self.spend()
        elif todo:
            folders = [group[0].folder for group in todo]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            tasks = [task_of(self.prepared, plan, group, self.folder) for group in todo]
            do_all(tasks, self.workers, self._told, folders, perform)
            for folder in folders:
                (folder / STATE).unlink(missing_ok=True)
            self.spend()

    def _in_time(self, plan: Plan, group: Sequence[Unit]) -> None:
        """One group of trainings, as far as the budget goes."""
        reserve, one = self.reserve(plan), group[0]
        cost, settings = self.costs[one.method.name], self.prepared.request.settings
        answers = cost.row * (plan.rows["dev"] + plan.rows["test"])
        slower = self._slower(plan)
        while True:
            tried = replace(plan, rates={one.method.name: one.rates})
            each = training_seconds(tried, one.method.name, cost, settings, len(one.rates) > 1, len(group))
            if one.rows is not None:
                each *= one.rows / plan.rows["train"]
            if self.clock.allows(slower * each * len(group) + reserve):
                break
            if len(one.rates) == 1:
                self.skipped.append(Message("{name} was left out: the budget was spent", name=one.name))
                return
            group = [replace(unit, rates=unit.rates[:-1]) for unit in group]
            one = group[0]
        deadline = Deadline(self.interrupts, self.clock, reserve + slower * answers)
        try:
            train_units(self.prepared, group, plan, deadline)
        except KeyboardInterrupt:
            if not deadline.stopped or self.interrupts.asked():
                raise
            self.skipped += [
                Message("{name} was stopped: the budget of {time} was over", name=unit.name, time=self._budget)
                for unit in group
            ]

    @property
    def _budget(self) -> str:
        return duration(self.options.seconds)

    def _told(self, name: str, done: int, total: int, **fields: object) -> None:
        self.spend()
        self.report(Message("train by {name}", name=name), done, total, **fields)

    def _fits(self, plan: Plan, number: int) -> bool:
        """Whether another wave of seeds fits, by how long the waves so far really took; done ones always do."""
        units = [(name, seed) for name in plan.methods for seed in plan.waves[number]]
        left = sum(record(self._place(name, seed)) is None for name, seed in units) / max(1, len(units))
        if not left:
            return True
        settings = self.prepared.request.settings
        count = 1 if self.workers is None else self.workers.count
        expected = left * self._slower(plan) * wave_seconds(plan, self.costs, settings, number, count)
        return self.clock.allows(expected + self.reserve(plan))

    def _slower(self, plan: Plan) -> float:
        """How many times as long as planned the trainings so far really took; at least 1."""
        settings = self.prepared.request.settings
        took = planned = 0.0
        for name in plan.methods:
            for place, found in enumerate(self.records.get(system_of(name), [])):
                if not found.get("resumed"):
                    took += found["seconds"]
                    planned += training_seconds(
                        plan, name, self.costs[name], settings, place == 0, found.get("abreast", 1)
                    )  # fmt: skip
        return max(1.0, took / planned) if planned else 1.0

    def _place(self, method: str, seed: int) -> Path:
        return self.folder / "systems" / system_of(method) / f"seed-{seed}"

    def fewer_rows(self, plan: Plan, system: str) -> dict[int, list[Prediction]]:
        """Training rows -> what the system said on test when it had learned from so many, at the rate that won."""
        name = next(name for name in plan.methods if system_of(name) == system)
        first, total = self.records[system][0], plan.rows["train"]
        counts = [count for share in CURVE if (count := int(share * total)) >= 4]
        units = [
            Unit(system, self.methods[name], first["seed"], (first["learning_rate"],),
                 self.folder / "curve" / f"{count}-rows", count)
            for count in counts
        ]  # fmt: skip
        self.train(plan, [units] if name in plan.abreast else [[unit] for unit in units])
        runs = {total: self.answers(system, first["seed"])}
        for unit, count in zip(units, counts, strict=True):
            if "failed" not in (record(unit.folder) or {"failed": ""}):
                runs[count] = read_jsonl(unit.folder / "predictions" / "foreword.jsonl")
        return dict(sorted(runs.items()))

    def _gather(self, system: str) -> None:
        """The answers of a system's seeds; a seed that failed is told and left out."""
        found = self.records.pop(system, [])
        for one in found:
            if "failed" in one:
                self.skipped.append(
                    Message(
                        "{name}, seed {n}: no learning rate worked ({why})",
                        name=system,
                        n=one["seed"],
                        why=one["failed"],
                    )
                )
        good = [one for one in found if "failed" not in one]
        if good:
            runs = tuple(tuple(self.answers(system, one["seed"])) for one in good)
            self.records[system] = good
            dev, loss = (sum(one[key] for one in good) / len(good) for key in ("dev", "dev_loss"))
            self.systems[system] = Runs(dev, runs, loss)

    def answers(self, system: str, seed: int) -> list[Prediction]:
        """What a trained system said on test."""
        return read_jsonl(self.folder / "systems" / system / f"seed-{seed}" / "predictions" / "foreword.jsonl")

    def file(self, system: str, number: int = 0) -> Path:
        """The foreword of a trained system."""
        seed = self.records[system][number]["seed"]
        return self.folder / "systems" / system / f"seed-{seed}" / "model.foreword"

    def files(self) -> Mapping[str, list[str]]:
        """System -> its predictions, below the folder: where every figure comes from."""
        out = {}
        for name, found in self.records.items():
            if name in self.systems and "seed" in found[0]:
                out[name] = [f"systems/{name}/seed-{one['seed']}/predictions/foreword.jsonl" for one in found]
            else:
                out[name] = [f"systems/{name}/predictions/test.jsonl"]
        return out
