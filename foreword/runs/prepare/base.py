"""The base of a run: one that is there, or one that is trained from scratch on the run's own rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.core.base.device import number_format
from foreword.core.base.load import Base, Outline, load_base
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.errors import Interrupted
from foreword.messages import Message, restored, stored
from foreword.runs.output_folder import RECORDS
from foreword.runs.train.interrupt import interruptible
from foreword.samples import textgenrnn
from foreword.settings.schema import FETCHED, SCRATCH, BaseSettings, ProgressCall, TrainRequest
from foreword.storage import building
from foreword.training.from_scratch.build_base import Text, build_base, untrained_base

FOLDER = "base"
PRECISION = "precision"
"""Where a run's record says in which number format its base was."""
_FETCH = dict(zip(FETCHED, (textgenrnn,), strict=True))


def find_base(name: str | Path, *, progress: ProgressCall | None = None, **options: Any) -> Base:
    """``load_base``, which also fetches what a word means, once, into the cache; such a base is recorded by its word.

    Args:
        name: a folder of that name in the working directory comes before the word.
        options: as for ``load_base``.

    Raises:
        ForewordError: it cannot be fetched.
        BaseError, ResourceError, SettingsError: as ``load_base``.
    """
    word = str(name)
    if word not in FETCHED or Path(word).is_dir():
        return load_base(name, progress=progress, **options)
    return replace(load_base(_FETCH[word](progress), **{**options, "revision": None}), id=word)


def base_for(
    request: TrainRequest,
    task: Task,
    tables: Mapping[str, Table],
    train: bool,
    report: ProgressCall,
    accept: Callable[[Outline | Base], None] = lambda base: None,
) -> Base:
    """The request's base, loaded; one that is trained from scratch is trained first, on whole rows.

    Args:
        tables: train and dev, without rows that the check refused.
        train: False: a base from scratch stays as it is before its training.
        accept: refuses a base that the task is not for; asked before its weights are loaded, where that can be.

    Raises:
        BaseError: it cannot be loaded.
        Interrupted: its training was stopped by the user; the same call goes on with it.
    """
    name, settings = request.base, request.settings
    if isinstance(name, Base):
        accept(name)
        return name
    if name in SCRATCH:
        folder = Path(request.output_dir) / FOLDER
        texts = [Text(task, tables["train"], tables["dev"])]
        if not (train and request.resume and folder.is_dir()):
            untrained = untrained_base(name, texts, request.base_settings)
            accept(untrained)
            if not train:
                return untrained
            folder = built(name, texts, request.base_settings, report)
        name = folder
    dtype: str = settings.dtype
    why = None
    if dtype == "auto":
        dtype, why = _recorded_precision(Path(request.output_dir))
    options = {"device": settings.device, "dtype": dtype, "task_head": task.masked}
    base = find_base(name, **options, accept=accept, progress=report)
    return replace(base, why=base.why or why)


def precision_of(base: Base) -> dict[str, Any]:
    """What a run's record says under :data:`PRECISION`, so that the run is gone on with in it."""
    return {"dtype": number_format(base.dtype), "why": stored(base.why)}


def _recorded_precision(folder: Path) -> tuple[str, Message | None]:
    """The setting of ``dtype`` for the run recorded in ``folder``, and why that was chosen; ``auto`` for none."""
    for name in RECORDS:
        if name.endswith(".json") and (folder / name).is_file():
            try:
                record = json.loads((folder / name).read_text(encoding="utf-8"))[PRECISION]
                why = restored(record["why"])
                return str(record["dtype"]), why if isinstance(why, Message) else None
            except (ValueError, KeyError, TypeError):  # damage is told of where the record is read for itself
                continue
    return "auto", None


def precision_note(base: Base) -> list[Message]:
    """In which number format the base ran, where that was chosen for the user; for people."""
    form = "the base in {dtype}: {why}"
    return [] if base.why is None else [Message(form, dtype=number_format(base.dtype), why=base.why)]


def keep_base(base: Base, request: TrainRequest, folder: Path) -> Base:
    """A base from scratch is copied into the run's folder, where its forewords will look for it."""
    if request.base not in SCRATCH:
        return base
    target = (folder / FOLDER).resolve()
    if not target.is_dir():
        copy_base(Path(base.id), target)
    return replace(base, id=str(target))


def built(name: str, texts: Sequence[Text], settings: BaseSettings, report: ProgressCall) -> Path:
    """The folder of a base from scratch in the cache; Ctrl-C saves its training. Raises Interrupted."""
    with interruptible() as interrupts:
        try:
            with interrupts.noted():
                return build_base(name, texts, settings, report, interrupts.asked)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted while the base was trained; its last state is saved",
                hint="give the same command again: it goes on from there",
            ) from None


def copy_base(source: Path, target: Path) -> None:
    """Copy a base's folder to ``target``, which is there whole or not at all."""
    with building(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
