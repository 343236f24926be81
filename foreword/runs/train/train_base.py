"""``foreword base``: train an LSTM or GRU from scratch, for any number of runs on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.runs.prepare.base import built, copy_base
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.prepare.ready_data import ready_data
from foreword.settings.schema import BaseSettings, ProgressCall, TaskOptions, TrainRequest
from foreword.training.from_scratch.build_base import Text


@dataclass(frozen=True)
class BaseResult:
    """A base that was trained from scratch.

    Args:
        folder: where it is; ``--base`` takes it.
        values: parameters.
        vocabulary: V.
        steps: optimizer steps; ``best_step`` is the one whose weights were kept.
        dev_loss: mean -log p a token of the texts plus that of the answers on dev, at the best step.
    """

    folder: str
    cell: str
    values: int
    vocabulary: int
    steps: int
    best_step: int
    dev_loss: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        return Message(
            "trained {folder} ({cell}, {values:,} values, {vocabulary:,} tokens; loss on dev "
            "{dev_loss:.3f} at step {best_step} of {steps})",
            folder=self.folder,
            cell=self.cell,
            values=self.values,
            vocabulary=self.vocabulary,
            dev_loss=self.dev_loss,
            best_step=self.best_step,
            steps=self.steps,
        )


def base(
    data: object,
    cell: str = "lstm",
    output_dir: str | Path = "base",
    *,
    dev: object = None,
    settings: BaseSettings | None = None,
    task_options: TaskOptions | None = None,
    skip_bad: bool = False,
    encoding: str | None = None,
    progress: ProgressCall | None = None,
) -> BaseResult:
    """Train an LSTM or GRU from scratch on one or several data files, into a folder that ``base`` takes anywhere.

    Args:
        data: a data file or rows in memory, or a list of data files, each a task of its own.
        cell: ``lstm`` or ``gru``.
        output_dir: the folder; new or empty.
        dev: what the training is watched on, for one data file; None takes a part of each file.
        settings: sizes and training.
        task_options: what the task is, as for :func:`foreword.train`.
        skip_bad: go on without the rows that the check refuses.

    Raises:
        SettingsError: something that cannot be, or the folder is not empty.
        DataError: the data is refused.
        Interrupted: stopped by the user; the same call goes on with it.
    """
    target = Path(output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError("the output folder is not empty", where=str(target), hint="name another folder")
    options = replace(task_options or TaskOptions(), first_k=None, test_fraction=0)
    each: Sequence[object] = [data]
    if isinstance(data, list | tuple) and all(isinstance(one, str | Path) for one in data):
        each = data
    texts = [
        _text(TrainRequest(one, cell, "", dev=dev, task_options=options, encoding=encoding, skip_bad=skip_bad))
        for one in each
    ]
    found = built(cell, texts, settings or BaseSettings(), progress or say_nothing)
    if target.is_dir():
        target.rmdir()
    copy_base(found, target)
    facts = json.loads((target / "training.json").read_text(encoding="utf-8"))
    return BaseResult(
        str(target), cell, facts["values"], facts["vocabulary"], facts["steps"], facts["best_step"], facts["dev_loss"]
    )


def _text(request: TrainRequest) -> Text:
    ready = ready_data(request)
    return Text(ready.task, ready.tables["train"], ready.tables["dev"])
