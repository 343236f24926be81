"""Several runs in one folder, each in a folder of its own: trained once, resumed when interrupted, read when done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.errors import Interrupted, ResumeError, SettingsError
from foreword.evaluation.predictions import Prediction, read_jsonl
from foreword.methods.base import make
from foreword.runs.prepare.base import base_for, keep_base
from foreword.runs.prepare.compatibility import refuse_mismatch
from foreword.runs.train.run_record import recorded
from foreword.runs.train.train import train
from foreword.settings.changed_settings import differences
from foreword.settings.schema import ProgressCall, TrainRequest

# Written last of all, so that a folder with it is a whole run.
_LAST = "report.html"
_AGAIN = "give the same command again: it goes on"


@dataclass(frozen=True)
class Member:
    """A finished run.

    Args:
        folder: of the run.
        report: what its ``report.json`` says.
        answers: the foreword's predictions on test; none without test rows.
        prompt: the text prompt's, None where there was none to compare with.
    """

    folder: Path
    report: dict[str, Any]
    answers: list[Prediction]
    prompt: list[Prediction] | None

    @property
    def file(self) -> Path:
        """The ``.foreword`` file."""
        return self.folder / "model.foreword"

    @property
    def learned(self) -> bool:
        """Whether something was learned that beat the prompt on dev."""
        return bool(self.report["file"]["outcome"] == "learned")

    def figure(self, system: str = "foreword") -> dict[str, Any]:
        """The figure on test of the metric that decides: value, low, high."""
        found: dict[str, Any] = self.report["systems"][system]["metrics"][self.report["training"]["metric"]]
        return found

    def prompt_figure(self) -> dict[str, Any] | None:
        """The text prompt's figure, which is the foreword's where the prompt was saved; None with a trained head."""
        if "prompt" in self.report["systems"]:
            return self.figure("prompt")
        return None if self.learned else self.figure()


def member(request: TrainRequest, name: str, report: ProgressCall) -> Member:
    """The run of ``request``, which is made now unless its folder holds it.

    Args:
        name: put in front of what progress is told.

    Raises:
        ResumeError: the folder holds another run.
        and whatever :func:`foreword.train` raises.
    """

    front = name

    def told(name: str, done: int, total: int, **fields: object) -> None:
        report(f"{front}: {name}", done, total, **fields)

    folder = Path(request.output_dir)
    if is_finished(folder):
        refuse_other(folder, request)
    else:
        try:
            train(replace(request, progress=told, resume=(folder / "run.json").exists()))
        except Interrupted as stopped:
            raise Interrupted(stopped.problem, where=str(folder), hint=_AGAIN) from None
    return finished(folder)


def refuse_other(folder: Path, request: TrainRequest) -> None:
    """Make sure that the finished run in ``folder`` is that of ``request``. Raises ResumeError; says in what not."""
    changed = list(differences(recorded(folder)["request"], request.to_json()))
    if changed:
        raise ResumeError(
            "a run of other settings is there",
            where=str(folder),
            received="; ".join(changed),
            hint="choose another folder, or give the settings it was begun with",
        )


def is_finished(folder: Path) -> bool:
    """Whether a whole run is in ``folder``."""
    return (folder / _LAST).exists()


def finished(folder: Path) -> Member:
    """The finished run in ``folder``."""
    answers, prompt = (folder / "predictions" / f"{name}.jsonl" for name in ("foreword", "prompt"))
    return Member(
        folder,
        json.loads((folder / "report.json").read_text(encoding="utf-8")),
        read_jsonl(answers) if answers.exists() else [],
        read_jsonl(prompt) if prompt.exists() else None,
    )


def shared_base(request: TrainRequest, task: Task, tables: Mapping[str, Table], report: ProgressCall) -> Base:
    """The base of all the runs, loaded once; one from scratch is kept in the folder of the series."""
    method = make(request.method, request.method_settings)
    base = base_for(request, task, tables, True, report, partial(refuse_mismatch, task, method))
    return keep_base(base, request, Path(request.output_dir))


def needs_test(tables: Mapping[str, Table]) -> None:
    """Raises SettingsError where no rows were kept to compare runs on."""
    if not len(tables.get("test", ())):
        raise SettingsError("there are no test rows to compare on", where="test", hint="give --test, or test_fraction")
