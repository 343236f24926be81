"""A trial on disk: one safetensors file that is there whole or not at all.

The tensors (writer, best writer, optimizer) and the progress, as JSON in the metadata, stand in the same file, which is
written beside its place and then moved there: a kill at any moment leaves the one before. The files of trials that
train side by side are written as a set (:func:`save_all`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from foreword.errors import ResumeError
from foreword.storage import explained
from foreword.training.loop import Evaluated, Score, Step, Trial, TrialState

_VERSION = "1"
_FAILED, _LIST = "failed.json", "saving.json"


def save(trial: Trial, path: Path) -> None:
    """Write the trial's whole state to ``path``."""
    _beside(trial, path).replace(path)


def _beside(trial: Trial, path: Path) -> Path:
    """Write the trial's whole state beside ``path``; returns where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"learning_rate": trial.learning_rate, "progress": asdict(trial.progress)}
    beside = path.with_suffix(".partial")
    tensors = {n: t.contiguous().cpu() for n, t in trial.tensors().items()}
    with explained(path):
        save_file(tensors, beside, {"version": _VERSION, "state": json.dumps(state)})
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
    return beside


def save_all(entries: Sequence[tuple[Trial, Path, Failure | None]], folder: Path | None = None) -> None:
    """Write the states of several trials, and why some of them are out, all of them or none.

    The files are written beside their places first; then a list of them, which makes the set valid; then each is moved.
    Whoever finds the list moves what is left (:func:`settle`).

    Args:
        entries: trial, place of its checkpoint, and why it is out (None: it is not). Each place is in a folder of its
            own.
        folder: above all of these, where the list stands; None: these stand beside each other, in it.
    """
    moves: list[tuple[Path, Path]] = []
    for trial, path, failure in entries:
        moves.append((_beside(trial, path), path))
        if failure is not None:
            moves.append((_failure_beside(path, failure), path.with_name(_FAILED)))
    folder = folder or entries[0][1].parent.parent
    if len(moves) > 1:
        listed = [[str(place.relative_to(folder)) for place in move] for move in moves]
        beside = folder / f"{_LIST}.partial"
        with beside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(listed))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(folder / _LIST)
    for beside, path in moves:
        beside.replace(path)
    (folder / _LIST).unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Finish a :func:`save_all` into the folders under ``folder`` that was cut off after its list was there."""
    if not (folder / _LIST).exists():
        return
    for beside, path in json.loads((folder / _LIST).read_text(encoding="utf-8")):
        if (folder / beside).exists():
            (folder / beside).replace(folder / path)
    (folder / _LIST).unlink()


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


def _failure_beside(path: Path, failure: Failure) -> Path:
    beside = path.with_name("failed.partial")
    beside.write_text(json.dumps(asdict(failure)), encoding="utf-8")
    return beside


def load_failure(path: Path) -> Failure | None:
    """Why the trial whose checkpoint is at ``path`` is out, if it is."""
    file = path.with_name(_FAILED)
    return Failure(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def _progress(saved: dict[str, Any]) -> TrialState:
    best = saved["best"]
    return TrialState(
        **{
            **saved,
            "best": None if best is None else Score(**best),
            "steps": [Step(**s) for s in saved["steps"]],
            "evaluations": [Evaluated(e["step"], Score(**e["score"]), e["best"]) for e in saved["evaluations"]],
        }
    )
