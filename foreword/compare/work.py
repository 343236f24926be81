"""The work of a comparison, part by part: each is done once, kept in a folder of its own, and read on resuming."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from foreword.budget import Clock
from foreword.compare.baselines import baselines
from foreword.compare.cost import measure
from foreword.compare.decide import Runs
from foreword.compare.names import PROMPTS, system_of
from foreword.compare.options import CompareOptions
from foreword.compare.plan import Cost, Plan, Size, make_plan, training_seconds
from foreword.compare.prompts import Prompts, variants
from foreword.compare.retention import behaviour
from foreword.compare.trained import Unit, keep, record, train_unit, with_rows
from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction, read_jsonl, write_atomically, write_jsonl
from foreword.methods.base import Method
from foreword.progress import duration
from foreword.run.interrupt import Interrupts
from foreword.run.prepare import Prepared, say_nothing


@dataclass
class Work:
    """What is done so far.

    Args:
        prepared: the base, the task and the rows; after :meth:`plan` only the rows of the plan.
        methods: name -> method, of those that may be trained.
        folder: of the comparison.
        clock: of the budget.
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
    systems: dict[str, Runs] = field(default_factory=dict)
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def report(self) -> Callable[..., None]:
        """The progress of the user."""
        return self.prepared.request.progress or say_nothing

    def spend(self) -> None:
        """Write down how much of the budget is gone, for a run that goes on after this one."""
        write_atomically(self.folder / "spent.json", [json.dumps({"seconds": round(self.clock.spent, 3)}).encode()])

    def plan(self, fixed: Plan | None = None) -> Plan:
        """The plan of this folder; made once, from real timings, unless one is given."""
        path = self.folder / "plan.json"
        if path.exists():
            saved = json.loads(path.read_text(encoding="utf-8"))
        else:
            saved = self._made(fixed)
            write_atomically(path, [json.dumps(saved, ensure_ascii=False, indent=1).encode()])
        self.costs = {name: Cost(**cost) for name, cost in saved["costs"].items()}
        self.skipped += saved["refused"]
        plan = Plan.from_json(saved["plan"])
        dice = random.Random(self.prepared.request.task_options.split_seed)
        chosen = {}
        for split, count in plan.rows.items():
            every = range(len(self.prepared.examples[split]))
            chosen[split] = sorted(dice.sample(every, count)) if count < len(every) else list(every)
        self.prepared = with_rows(self.prepared, chosen)
        return plan

    def _made(self, fixed: Plan | None) -> dict[str, Any]:
        settings = self.prepared.request.settings
        costs, refused = measure(self.prepared, self.methods, partial(self.report, "time each method"))
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
        plan = fixed or make_plan(rates, costs, settings, size, left, self.options.seeds)
        return {
            "plan": plan.to_json(),
            "costs": {name: vars(cost) for name, cost in costs.items()},
            "refused": [f"{name} was left out: {why}" for name, why in refused.items()],
        }

    def before(self) -> str:
        """What the base alone computed before anything was trained."""
        path = self.folder / "before.json"
        if not path.exists():
            write_atomically(path, [json.dumps({"behaviour": behaviour(self.prepared)}).encode()])
        return str(json.loads(path.read_text(encoding="utf-8"))["behaviour"])

    def untrained(self) -> None:
        """Baselines, and the untrained model with its prompts."""
        for name, make in baselines(self.prepared).items():
            self._untrained(name, make)
        if self.prepared.task.head:
            return
        prompts = Prompts.of(self.prepared, self.folder)
        choices = variants(self.prepared, self.options)
        for name in PROMPTS:
            self._untrained(name, partial(prompts.best, choices[name]))

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
            self.skipped.append(f"{name}: no such prompt fits this base")
            return
        self.records[name] = [done]
        self.systems[name] = Runs(done["dev"], (tuple(read_jsonl(folder / "predictions" / "test.jsonl")),))

    def trained(self, plan: Plan) -> None:
        """Every method with its seeds, one seed of all before the next: what time ends early is still fair."""
        for number, seed in enumerate(plan.seeds):
            if number and not self._fits(plan, number):
                left = len(plan.seeds) - number
                self.skipped.append(
                    f"{left} of {len(plan.seeds)} seeds were left out: the budget of {duration(self.options.seconds)} "
                    "would not have held them"
                )
                break
            for name in plan.methods:
                self._train(plan, name, seed)
        for name in plan.methods:
            self._gather(system_of(name))

    def _fits(self, plan: Plan, number: int) -> bool:
        """Whether another round of seeds fits, by how long the rounds so far really took; done rounds always do."""
        todo = [name for name in plan.methods if record(self._place(name, plan.seeds[number])) is None]
        if not todo:
            return True
        settings, rows = self.prepared.request.settings, self.prepared.examples
        size = Size(len(rows["train"]), len(rows["dev"]), len(rows["test"]), prompts=0)
        expected = {
            (name, first): training_seconds(plan, name, self.costs[name], settings, size, first)
            for name in plan.methods
            for first in (True, False)
        }
        took = planned = 0.0
        for name in plan.methods:
            for place, found in enumerate(self.records.get(system_of(name), [])):
                if not found.get("resumed"):
                    took, planned = took + found["seconds"], planned + expected[name, place == 0]
        slower = max(1.0, took / planned) if planned else 1.0
        # What comes after the last seed: latencies, retention, the page.
        return self.clock.allows(slower * sum(expected[name, False] for name in todo) + 0.03 * self.options.seconds)

    def _place(self, method: str, seed: int) -> Path:
        return self.folder / "systems" / system_of(method) / f"seed-{seed}"

    def _train(self, plan: Plan, name: str, seed: int) -> None:
        system, before = system_of(name), self.records.setdefault(system_of(name), [])
        if before and "failed" in before[0]:
            return
        rates = plan.rates[name] if not before else (before[0]["learning_rate"],)
        unit = Unit(system, self.methods[name], seed, rates, self._place(name, seed))
        before.append({**train_unit(self.prepared, unit, plan, self.interrupts), "seed": seed})
        self.spend()

    def _gather(self, system: str) -> None:
        """The answers of a system's seeds; a seed that failed is told and left out."""
        found = self.records.pop(system, [])
        for one in found:
            if "failed" in one:
                self.skipped.append(f"{system}, seed {one['seed']}: no learning rate worked ({one['failed']})")
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
