"""One method with one seed: a run in a folder of its own, and its record, written when everything is there. Seeds of a
method can train side by side."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.errors import NothingLearnedError
from foreword.messages import Message, stored
from foreword.methods.base import Method, make_writer
from foreword.runs.prepare.prepare import Prepared, say_nothing, with_rows
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.finish import finish
from foreword.runs.train.interrupt import Interrupts
from foreword.runs.train.outcome import Outcome
from foreword.runs.train.rates_side_by_side import Run, learn_side_by_side
from foreword.runs.train.run_record import record_run
from foreword.runs.train.train import learn
from foreword.runs.train.trials import TRIALS
from foreword.storage import write_atomically
from foreword.studies.compare.plan import Plan
from foreword.training.lr_search import Sweep

DONE = "done.json"


def record(folder: Path) -> dict[str, Any] | None:
    """What :func:`keep` wrote, None where this part of the comparison is not finished."""
    path = folder / DONE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def keep(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Mark a part as finished: the last thing that is written of it."""
    write_atomically(folder / DONE, [json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "replace")])
    return values


def shuffled(count: int, seed: int) -> list[int]:
    """The order in which fewer training rows are taken."""
    order = list(range(count))
    random.Random(f"curve/{seed}").shuffle(order)
    return order


@dataclass(frozen=True)
class Unit:
    """One training.

    Args:
        system: its name in the comparison.
        method: what is trained.
        seed: of initial values and the order of rows.
        rates: learning rates to try; one is simply used.
        folder: where the run is.
        rows: how many of the training rows it learns from; None: all.
    """

    system: str
    method: Method
    seed: int
    rates: tuple[float, ...]
    folder: Path
    rows: int | None = None

    @property
    def name(self) -> str:
        """For progress."""
        return f"{self.system} seed {self.seed}" + ("" if self.rows is None else f" with {self.rows} rows")


def train_units(prepared: Prepared, units: Sequence[Unit], plan: Plan, interrupts: Interrupts) -> list[dict[str, Any]]:
    """Train, answer dev and test, save; what was recorded where that was done before.

    Several units train side by side: their folders are in one, and each has one rate. A record has ``failed`` where no
    rate worked.
    """
    todo = [unit for unit in units if record(unit.folder) is None]
    resumed = any((unit.folder / TRIALS).exists() for unit in todo)
    runs = [_begun(prepared, unit, plan) for unit in todo]
    began = time.monotonic()
    found: list[tuple[Sweep, list[str]]]
    if len(todo) > 1:
        front = Message("{system}, {n} side by side: ", system=todo[0].system, n=len(todo))
        told = partial(_named, prepared.request.progress or say_nothing, front)
        found = learn_side_by_side(runs, todo[0].folder.parent, interrupts, told)
    else:
        found = [_alone(run.prepared, run.folder, run.dev, interrupts) for run in runs]
    took = time.monotonic() - began
    steps = [sum(outcome.steps for outcome in sweep.results) for sweep, _ in found]
    for unit, run, (sweep, alarms), own in zip(todo, runs, found, steps, strict=True):
        # What side by side takes is shared out by the steps.
        seconds = took * (own / sum(steps) if sum(steps) else 1 / len(todo))
        how = {"seconds": round(seconds, 3), "abreast": len(todo), "resumed": resumed}
        _end(unit, run.prepared, sweep, alarms, how)
    return [dict(record(unit.folder) or {}) for unit in units]


def _alone(prepared: Prepared, folder: Path, dev: DevScore, interrupts: Interrupts) -> tuple[Sweep, list[str]]:
    """What :func:`foreword.runs.train.train.learn` finds; a sweep without a trial where no rate worked."""
    try:
        return learn(prepared, folder, dev, None, interrupts)
    except NothingLearnedError as problem:
        return Sweep(), [str(problem.received)]


def _begun(prepared: Prepared, unit: Unit, plan: Plan) -> Run:
    """The unit as a run, its folder claimed."""
    report = prepared.request.progress or say_nothing
    told = partial(_named, report, f"{unit.name}: ")
    if unit.rows is not None:
        order = shuffled(len(prepared.examples["train"]), prepared.request.task_options.split_seed)
        prepared = with_rows(prepared, {"train": sorted(order[: unit.rows])})
    one = unit.rates[0] if len(unit.rates) == 1 else None
    settings = replace(
        prepared.request.settings, seed=unit.seed, learning_rate=one, sweep=() if one else unit.rates,
        num_train_epochs=plan.epochs,
    )  # fmt: skip
    request = replace(
        prepared.request, method=unit.method.name, method_settings=unit.method.settings(), settings=settings,
        output_dir=unit.folder, resume=True, progress=told,
    )  # fmt: skip
    own = replace(prepared, request=request, method=unit.method, start=replace(prepared.start, seed=unit.seed))
    record_run(unit.folder, own)
    return Run(own, unit.folder, DevScore(own.asker, own.examples["dev"], partial(told, "evaluate on dev")))


def _end(unit: Unit, own: Prepared, sweep: Sweep, alarms: list[str], told: dict[str, Any]) -> None:
    """Answer, save and record what was learned."""
    trial = sweep.trial
    if trial is None:
        keep(unit.folder, {"failed": "; ".join(alarms), **told})
        return
    assert trial.progress.best is not None
    value, best = trial.best(), trial.progress.best
    began = time.monotonic() - told["seconds"]
    result = finish(own, Outcome(value, best, sweep, alarms=tuple(alarms), began=began), unit.folder)
    values = sum(p.numel() for p in make_writer(unit.method, own.start).parameters() if p.requires_grad)
    keep(
        unit.folder,
        {
            "dev": best.metric, "dev_loss": best.loss, "learning_rate": trial.learning_rate,
            "best_step": trial.progress.best_step, "steps": trial.progress.step,
            "steps_of_search": sum(o.steps for o in sweep.results), "trained_values": values,
            "values": result.num_values, "bytes": result.bytes, "file": "model.foreword", "alarms": stored(alarms),
            "virtual_tokens": value.num_virtual_tokens, "lead_tokens": len(own.asker.lead(value)),
            "digest": value.digest(), **told,
        },
    )  # fmt: skip
    # Only whoever goes on training needs the checkpoints, and of whole models they are large.
    shutil.rmtree(unit.folder / TRIALS, ignore_errors=True)


def _named(report: Any, before: str, name: str, done: int, total: int, **fields: object) -> None:
    report(before + name, done, total, **fields)


def reading_tokens(prepared: Prepared, value: Foreword) -> float:
    """Tokens that a request with ``value`` in front reads, on average over the test (or dev) rows."""
    rows = prepared.examples.get("test") or prepared.examples["dev"]
    return len(prepared.asker.lead(value)) + sum(len(row.input_ids) for row in rows) / len(rows)
