"""A trial on disk: one safetensors file that is there whole or not at all.

The tensors (writer, best writer, optimizer) and the progress, as JSON in the metadata, stand in the same file, which is
written beside its place and then moved there: a kill at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from foreword.errors import ResumeError
from foreword.training.loop import Evaluated, Progress, Score, Step, Trial

_VERSION = "1"


def save(trial: Trial, path: Path) -> None:
    """Write the trial's whole state to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"learning_rate": trial.learning_rate, "progress": asdict(trial.progress)}
    beside = path.with_suffix(".partial")
    tensors = {n: t.contiguous().cpu() for n, t in trial.tensors().items()}
    save_file(tensors, beside, {"version": _VERSION, "state": json.dumps(state)})
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def load(trial: Trial, path: Path) -> bool:
    """Put a saved state into ``trial``; False where there is none yet.

    Raises:
        ResumeError: the file is damaged or belongs to another trial.
    """
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        state = json.loads(metadata["state"])
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise ResumeError(
            "the checkpoint cannot be read",
            where=str(path),
            received=str(problem),
            hint="delete it to repeat this part of the run",
        ) from problem
    if metadata.get("version") != _VERSION or state["learning_rate"] != trial.learning_rate:
        raise ResumeError("the checkpoint is of another version or trial", where=str(path), hint="start a new run")
    trial.restore(tensors, _progress(state["progress"]))
    return True


@dataclass(frozen=True)
class Failure:
    """Why a trial is out, and the number of the step (from 1) at which it happened."""

    step: int
    why: str


def save_failure(path: Path, failure: Failure) -> None:
    """Record beside the checkpoint ``path`` that the trial failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name("failed.partial")
    beside.write_text(json.dumps(asdict(failure)), encoding="utf-8")
    beside.replace(path.with_name("failed.json"))


def load_failure(path: Path) -> Failure | None:
    """What :func:`save_failure` recorded beside ``path``, if anything."""
    file = path.with_name("failed.json")
    return Failure(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _progress(saved: dict[str, Any]) -> Progress:
    best = saved["best"]
    return Progress(
        **{
            **saved,
            "best": None if best is None else Score(**best),
            "steps": [Step(**s) for s in saved["steps"]],
            "evaluations": [Evaluated(e["step"], Score(**e["score"]), e["best"]) for e in saved["evaluations"]],
        }
    )
