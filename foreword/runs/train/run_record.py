"""``run.json``: what a run is. A folder belongs to one run, and only that run can go on in it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.core.base.device import number_format
from foreword.data.quality.split import DataLock
from foreword.errors import ResumeError, SettingsError
from foreword.messages import Message
from foreword.runs.prepare.base import PRECISION, precision_of
from foreword.runs.prepare.prepare import Prepared
from foreword.settings.changed_settings import differences
from foreword.settings.layers import from_json
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.settings.yaml import to_yaml
from foreword.storage import write_atomically

_NAME = "run.json"


def record_run(folder: Path, prepared: Prepared, *, name: str = _NAME, more: Mapping[str, Any] | None = None) -> None:
    """Record what this run is, or make sure that the run found there is the same.

    Args:
        name: of the record; a search keeps its own beside none of a training run.
        more: settings of the run beyond the request's.

    Raises:
        ResumeError: it is another one; says in what.
        SettingsError: a run that was not to be resumed is there.
    """
    record: dict[str, Any] = {
        "request": {**prepared.request.to_json(), **(more or {})},
        "base": prepared.base.fingerprint,
        PRECISION: precision_of(prepared.base),
        "data": prepared.lock.to_json(),
        "started_in": str(Path.cwd()),
    }
    path = folder / name
    if prepared.request.resume and path.exists():
        before = recorded(folder, name)
        found = DataLock.from_json(before["data"]).differs(prepared.lock)
        found += [
            f"base: another {part}" for part, digest in before["base"].items() if record["base"].get(part) != digest
        ]
        found += differences(before["request"], record["request"])
        if found:
            raise ResumeError(
                "this is not the run that was started",
                where=str(folder),
                received="; ".join(found),
                hint="start a new run in another folder, or bring the old data and settings back",
            )
        return
    if path.exists() or (folder / "model.foreword").exists():
        raise SettingsError(
            "the folder holds a run already",
            where=str(folder),
            hint="resume it with `--resume`, replace it with `--overwrite`, or choose another folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    if name == _NAME:
        write_atomically(folder / "settings.yaml", to_yaml(_resolved(prepared)).encode())
    write_atomically(path, [json.dumps(record, indent=1, ensure_ascii=False).encode()])


def recorded(folder: Path, name: str = _NAME) -> dict[str, Any]:
    """What :func:`claim` recorded, ``request``, ``base`` and ``data``, and what the run found out for itself since.

    Raises:
        ResumeError: there is no run in ``folder``, or its record is damaged.
    """
    path = folder / name
    if not path.exists():
        raise ResumeError(
            "there is no run to resume", where=str(folder), expected=Message("a folder with {name}", name=name)
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        request = _from_here(found["request"], Path(found.get("started_in", ".")))
        return {**found, "request": request, **{part: found[part] for part in ("base", "data")}}
    except (ValueError, KeyError, TypeError) as problem:
        raise ResumeError("the run's record is damaged", where=str(path), hint="start a new run") from problem


def _resolved(prepared: Prepared) -> dict[str, Any]:
    """The settings as the run has them: what was not said about the task is there as it was made from the data."""
    settings = prepared.request.to_json()
    task = {**settings["task"], "template": prepared.task.template, "metric": prepared.task.metric}
    if prepared.task.guidance and task["guidance_file"] is None:
        task["guidance"] = prepared.task.guidance
    return {**settings, "dtype": number_format(prepared.base.dtype), "task": task}


def _from_here(request: Mapping[str, Any], started_in: Path) -> dict[str, Any]:
    """A run's settings, whose paths are relative to where it was started, with paths that are found from here."""
    found = dict(request)
    for key in ("data", "dev", "test", "base", "init_from"):
        name = found.get(key)
        if isinstance(name, str) and not Path(name).exists() and (started_in / name).exists():
            found[key] = str(started_in / name)
    return found


def to_resume(
    folder: str | Path, call: str, progress: ProgressCall | None = None, *, name: str = _NAME, more: str = ""
) -> tuple[TrainRequest, Any]:
    """The request of the run in ``folder``, to go on with it there, and what was recorded under ``more`` beside it.

    Args:
        call: what the user calls for such a run, as a hint says it: ``train``.

    Raises:
        ResumeError: there is no run in ``folder``, or its data were in memory.
    """
    saved = dict(recorded(Path(folder), name)["request"])
    if any(str(saved.get(split)).startswith("<") for split in ("data", "dev", "test")):
        raise ResumeError(
            "the run's data were in memory",
            where=str(folder),
            hint=Message("call {call}() again with the same data and resume=True", call=call),
        )
    beside = saved.pop(more) if more else None
    request = from_json(saved, str(folder)).request(progress=progress, resume=True)
    return replace(request, output_dir=folder), beside


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process or thread at a time is in such a block for a run's ``folder``; others wait for it to leave.

    The lock belongs to the opened record, so it ends with its process, however that ends, and leaves nothing behind.
    """
    with (folder / _NAME).open("r+b") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        yield
