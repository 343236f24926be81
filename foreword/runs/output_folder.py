"""The folder of a run: one process at work in it, never written into when something is there, unless the user says so.

torch is not imported: what cannot be is refused before anything is loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.progress import showing
from foreword.settings.schema import TrainRequest
from foreword.storage import LOCK, locked, refuse_locked

P = ParamSpec("P")
R = TypeVar("R")
# What says that a folder is that of a run, and what else runs write; anything else in a folder is the user's own.
RECORDS = (
    "run.json", "settings.yaml", "trainer_log.jsonl", "report.json", "model.foreword", "search.json", "compare.json",
    "folds.json", "distill.json",
)  # fmt: skip
_WRITTEN = (
    *RECORDS, LOCK, "report.md", "report.html", "report.zh-CN.md", "predictions", "trials", "base", "ablation", "all",
    "answers", "cache", "curve", "before.json", "done.json", "flagged.jsonl", "guidance.txt", "label_next.jsonl",
    "latency.json", "proposals", "rounds.jsonl", "spent.json", "systems", "teacher", "worker.json",
)  # fmt: skip


@contextmanager
def claimed(
    output_dir: str | Path, *, overwrite: bool = False, inputs: Iterable[object] = (), empty: bool = False
) -> Iterator[Path]:
    """The folder, this process alone at work in it, free for a new run while the block runs.

    With ``overwrite`` an earlier run is set aside, removed once the new run has written something, and put back
    when it has not: a run that is refused before it starts costs nothing. What else is in that folder stays. A block
    inside the block is part of it.

    Args:
        inputs: what the run reads; paths in the folder that would be replaced are refused.
        empty: refuse a folder with anything in it, unless ``overwrite``.

    Raises:
        SettingsError: another process is at work there; something is there already; or ``overwrite`` would remove what
            is not a run, or an input.
    """
    folder = Path(output_dir).resolve()
    if not _is_first():
        yield folder
        return
    refuse_locked(folder)
    aside = folder.with_name(f".{folder.name}.replaced")
    if aside.is_dir() and not _occupied(folder):  # a run that was killed before it had written anything
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    if not _occupied(folder) or not (overwrite or empty):
        with locked(folder):
            yield folder
        return
    _refuse(folder, str(output_dir), overwrite, inputs)
    with locked(folder):
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    with _replacing(folder, aside), locked(folder):
        yield folder


def new_run(request: TrainRequest, overwrite: bool) -> AbstractContextManager[Path]:
    """:func:`claimed` for a request of the command line, which writes into an empty folder only."""
    return claimed(request.output_dir, overwrite=overwrite, inputs=request.files(), empty=True)


def _refuse(folder: Path, shown: str, overwrite: bool, inputs: Iterable[object]) -> None:
    if not overwrite:
        raise SettingsError(
            "the output folder is not empty",
            where=shown,
            hint=Message(
                "go on with that run: --resume {shown}; replace it: --overwrite; or name another folder", shown=shown
            ),
        )
    if not _is_run(folder) or Path.cwd().is_relative_to(folder):
        raise SettingsError(
            "--overwrite replaces the folder of an earlier run only",
            where=shown,
            hint="empty the folder yourself, or name another one",
        )
    for given in inputs:
        if isinstance(given, str | Path) and os.path.exists(given) and Path(given).resolve().is_relative_to(folder):
            raise SettingsError(
                "--overwrite would remove an input of the run",
                where=shown,
                received=str(given),
                hint="copy it somewhere else first, or name another folder",
            )


@contextmanager
def _replacing(folder: Path, aside: Path) -> Iterator[None]:
    """Remove what was set aside once the block has written something; put it back where it has not."""
    try:
        yield
    finally:
        if _occupied(folder):
            for path in aside.iterdir():
                of_run = path.name in _WRITTEN or path.name.startswith("fold-")
                if not (of_run or (folder / path.name).exists()):
                    path.rename(folder / path.name)
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)


def in_its_folder(run: Callable[Concatenate[TrainRequest, P], R]) -> Callable[Concatenate[TrainRequest, P], R]:
    """A run that has its output folder for itself, and shows how far it is where the request does not say to whom."""

    @wraps(run)
    def alone(request: TrainRequest, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if request.resume and request.overwrite:
            raise SettingsError(
                "a run is gone on with or replaced, not both", where="--overwrite", hint="leave one out"
            )
        folder = claimed(request.output_dir, overwrite=request.overwrite, inputs=request.files())
        with folder, showing(request.progress if _is_first() else False) as progress:
            return run(replace(request, overwrite=False, progress=progress), *args, **kwargs)

    return alone


def _is_first() -> bool:
    """Of the processes that ``torchrun`` starts, the first owns the folders."""
    return os.environ.get("RANK", "0") == "0"


def _occupied(folder: Path) -> bool:
    if folder.is_dir():
        return any(path.name != LOCK for path in folder.iterdir())
    return folder.exists()


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).exists() for name in RECORDS)
