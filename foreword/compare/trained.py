"""One method with one seed: a run in a folder of its own, and its record, written when everything is there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.compare.plan import Plan
from foreword.core.value import Foreword
from foreword.data.split import DataLock
from foreword.errors import NothingLearnedError
from foreword.evaluation.predictions import write_atomically
from foreword.methods.base import Method, make_writer
from foreword.run.claim import claim
from foreword.run.dev import DevScore
from foreword.run.interrupt import Interrupts
from foreword.run.prepare import Prepared, say_nothing
from foreword.run.result import finish
from foreword.run.train import learn

DONE = "done.json"


def record(folder: Path) -> dict[str, Any] | None:
    """What :func:`keep` wrote, None where this part of the comparison is not finished."""
    path = folder / DONE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def keep(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Mark a part as finished: the last thing that is written of it."""
    write_atomically(folder / DONE, [json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "replace")])
    return values


def with_rows(prepared: Prepared, indices: Mapping[str, Sequence[int]]) -> Prepared:
    """The same with some of the rows of some splits."""
    tables, examples = dict(prepared.tables), dict(prepared.examples)
    for split, chosen in indices.items():
        tables[split] = tables[split].with_rows(tables[split].rows[i] for i in chosen)
        examples[split] = [examples[split][i] for i in chosen]
    return replace(prepared, tables=tables, examples=examples, lock=DataLock.of(tables))


@dataclass(frozen=True)
class Unit:
    """One training.

    Args:
        system: its name in the comparison.
        method: what is trained.
        seed: of initial values and the order of rows.
        rates: learning rates to try; one is simply used.
        folder: where the run is.
    """

    system: str
    method: Method
    seed: int
    rates: tuple[float, ...]
    folder: Path


def train_unit(prepared: Prepared, unit: Unit, plan: Plan, interrupts: Interrupts) -> dict[str, Any]:
    """Train, answer dev and test, save; what was recorded where that was done before.

    The record has ``failed`` where no rate worked.
    """
    found = record(unit.folder)
    if found is not None:
        return found
    began = time.monotonic()
    report = prepared.request.progress or say_nothing
    told = partial(_named, report, f"{unit.system} seed {unit.seed}: ")
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
    again = (unit.folder / "trials").exists()
    claim(unit.folder, own)
    dev = DevScore(own.asker, own.examples["dev"], partial(told, "evaluate on dev"))
    try:
        sweep, alarms = learn(own, unit.folder, dev, None, interrupts)
    except NothingLearnedError as problem:
        return keep(unit.folder, {"failed": str(problem.received), "seconds": time.monotonic() - began})
    trial = sweep.trial
    assert trial is not None
    assert trial.progress.best is not None
    value, best = trial.best(), trial.progress.best
    trained = time.monotonic() - began
    result = finish(own, unit.folder, value, None, best, None, sweep, alarms, began)
    values = sum(p.numel() for p in make_writer(unit.method, own.start).parameters() if p.requires_grad)
    done = keep(
        unit.folder,
        {
            "dev": best.metric, "dev_loss": best.loss, "learning_rate": trial.learning_rate,
            "best_step": trial.progress.best_step, "steps": trial.progress.step,
            "steps_of_search": sum(o.steps for o in sweep.outcomes), "trained_values": values,
            "values": result.num_values, "bytes": result.bytes, "file": "model.foreword", "alarms": alarms,
            "seconds": round(trained, 3), "resumed": again, "virtual_tokens": value.num_virtual_tokens,
            "lead_tokens": len(own.asker.lead(value)), "digest": value.digest(),
        },
    )  # fmt: skip
    # Only whoever goes on training needs the checkpoints, and of whole models they are large.
    shutil.rmtree(unit.folder / "trials", ignore_errors=True)
    return done


def _named(report: Any, before: str, name: str, done: int, total: int, **fields: object) -> None:
    report(before + name, done, total, **fields)


def reading_tokens(prepared: Prepared, value: Foreword) -> float:
    """Tokens that a request with ``value`` in front reads, on average over the test (or dev) rows."""
    rows = prepared.examples.get("test") or prepared.examples["dev"]
    return len(prepared.asker.lead(value)) + sum(len(row.input_ids) for row in rows) / len(rows)
