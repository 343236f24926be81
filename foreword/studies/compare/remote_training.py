"""Trainings of a comparison in a process of their own, here or on another machine: the same call as in one process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.errors import ForewordError
from foreword.methods.base import make
from foreword.runs.prepare.base import keep_base
from foreword.runs.prepare.prepare import Prepared, prepare
from foreword.runs.train.interrupt import interruptible
from foreword.runs.workers.worker import WorkerProgress, answer
from foreword.settings.layers import from_json
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.setup import planned_rows
from foreword.studies.compare.trained_systems import Unit, train_units

_FILES = ("data", "dev", "test")


def task_of(prepared: Prepared, plan: Plan, units: Sequence[Unit], folder: Path) -> dict[str, Any]:
    """What a worker is told to train ``units``.

    The request stays as it was given, because the runs record it; where the files really are stands beside it.

    Args:
        folder: of the comparison; a base from scratch is kept there.
    """
    request = prepared.request
    given = {name: getattr(request, name) for name in _FILES}
    return {
        "request": request.to_json(),
        "places": {
            **{name: str(Path(value).resolve()) for name, value in given.items() if value is not None},
            "base": _found(keep_base(prepared.base, request, folder).id),
        },
        "plan": plan.to_json(),
        "units": [
            {"system": unit.system, "method": unit.method.name, "settings": unit.method.settings(), "seed": unit.seed,
             "rates": list(unit.rates), "folder": str(unit.folder.resolve()), "rows": unit.rows}
            for unit in units
        ],
    }  # fmt: skip


def _found(name: str) -> str:
    """A base's folder from wherever the worker stands; a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def perform(task: Mapping[str, Any]) -> dict[str, Any]:
    """Train the units of a :func:`task_of`; says what failed instead of raising. What is finished is only read."""
    plan, units = Plan.from_json(task["plan"]), [_unit(one) for one in task["units"]]
    request = from_json(task["request"], "a comparison's settings").request(WorkerProgress(units[0].folder))
    try:
        with interruptible() as interrupts:
            prepared = prepare(replace(request, **task["places"]))
            asked = {name: getattr(request, name) for name in task["places"]}
            prepared = replace(prepared, request=replace(prepared.request, **asked))
            train_units(planned_rows(prepared, plan), units, plan, interrupts)
    except ForewordError as problem:
        return {"error": str(problem), "kind": type(problem).__name__}
    except KeyboardInterrupt:
        return {"error": "interrupted; its last state is saved", "kind": "Interrupted"}
    return {"error": None}


def _unit(told: Mapping[str, Any]) -> Unit:
    method = make(told["method"], told["settings"])
    return Unit(told["system"], method, told["seed"], tuple(told["rates"]), Path(told["folder"]), told["rows"])


if __name__ == "__main__":
    sys.exit(answer(perform))
