"""One training run: measure the prompt, learn, choose, never save what is worse, say what was gained."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.errors import Interrupted, NothingLearnedError
from foreword.messages import Message
from foreword.progress import silent
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.base import keep_base
from foreword.runs.prepare.prepare import Prepared, prepare, say_nothing
from foreword.runs.trackers.base import asked_for
from foreword.runs.train.alarms import alarms_of
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.finish import finish
from foreword.runs.train.interrupt import Interrupts, interruptible
from foreword.runs.train.outcome import Outcome
from foreword.runs.train.result import TrainResult
from foreword.runs.train.run_record import record_run, to_resume
from foreword.runs.train.training_rows import ablated, facts_of
from foreword.runs.train.trials import TRIALS, SweepProgress, TrialMaker
from foreword.runs.workers.launch import launched
from foreword.settings.layers import resolve
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.training import distributed
from foreword.training.loop import Score, Trial
from foreword.training.lr_search import Sweep, planned_steps, search
from foreword.training.schedule import total_steps
from foreword.training.side_by_side import side_by_side

__all__ = ["TrainResult", "resume", "train"]


def train(
    data: object, base: str | Base | None = None, output_dir: str | Path | None = None, **settings: Any
) -> TrainResult:
    """Learn a foreword; writes ``output_dir/model.foreword``, ``report.json|md|html`` and more.

    Args:
        data: a data file or rows in memory; or a whole :class:`~foreword.settings.schema.TrainRequest`, alone.
        base: the base model: hub id, folder or GGUF file, or one that ``load_base`` has loaded.
        output_dir: the run's folder.
        settings: any setting by its name: ``dev``, ``test``, ``method``, ``guidance``, ``learning_rate``, ``seed``;
            ``overwrite=True`` replaces an earlier run in ``output_dir``, ``resume=True`` goes on with it;
            ``progress=False`` shows nothing on the way.

    Raises:
        DataError: the data is refused.
        SettingsError, BaseError: something that cannot be, found before training.
        NothingLearnedError: every learning rate failed; nothing is saved but the run's folder.
        ResumeError: ``resume`` and the data, settings or base are not those of the run.
        Interrupted: stopped by the user; the checkpoint is saved.

    >>> from foreword import train
    >>> result = train("reviews.csv", base="base", output_dir="run", learning_rate=0.02, max_steps=2, progress=False)
    >>> result.file, result.rows
    ('run/model.foreword', {'train': 28, 'dev': 4, 'test': 8})
    """
    began = time.monotonic()
    request = data if isinstance(data, TrainRequest) else _request(data, base, output_dir, settings)
    return _in_folder(request, began)


@in_its_folder
def _in_folder(request: TrainRequest, began: float) -> TrainResult:
    with launched(request) as own:
        return _train(own, began)


def _train(request: TrainRequest, began: float) -> TrainResult:
    folder = Path(request.output_dir)
    asked_for(request.settings.report_to)
    prepared = prepare(request)
    record_run(folder, prepared)
    prepared = replace(prepared, base=keep_base(prepared.base, request, folder))
    with distributed.spread(prepared.base.model, request.settings.shard), interruptible() as interrupts:
        try:
            return _run(prepared, folder, began, interrupts)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; the run's last state is saved",
                where=str(folder),
                hint=Message("go on with `foreword train --resume {folder}`", folder=folder),
            ) from None


def _request(
    data: object, base: str | Base | None, output_dir: str | Path | None, settings: dict[str, Any]
) -> TrainRequest:
    """The request that the keywords of :func:`train` say."""
    progress, resume = settings.pop("progress", None), bool(settings.pop("resume", False))
    progress = silent if progress is False else None if progress is True else progress
    overwrite = bool(settings.pop("overwrite", False))
    splits: dict[str, Any] = {"data": data, **{name: settings.pop(name, None) for name in ("dev", "test")}}
    named = {
        "data": "data",
        "base": base.id if isinstance(base, Base) else base,
        "output_dir": None if output_dir is None else str(output_dir),
        **settings,
    }
    request = replace(resolve(flags=named).request(progress, resume, overwrite), **splits)
    return replace(request, base=base) if isinstance(base, Base) else request


def resume(folder: str | Path, progress: ProgressCall | None = None) -> TrainResult:
    """Go on with an interrupted run; ends bit-equal (on CPU) to the run without the interruption.

    Raises:
        ResumeError: there is no run in ``folder``, its data were in memory, or they have changed.

    >>> from foreword.api import resume
    >>> resume("finished", progress=lambda *_, **__: None).file  # what is finished is read
    'finished/model.foreword'
    """
    return train(to_resume(folder, "train", progress)[0])


def _run(prepared: Prepared, folder: Path, began: float, interrupts: Interrupts) -> TrainResult:
    report = prepared.request.progress or say_nothing
    # Where rows come with the guidance and without it, both kinds choose.
    rows = [*prepared.examples["dev"], *prepared.plain.get("dev", [])]
    dev = DevScore(prepared.asker, rows, partial(report, "evaluate on dev"))
    prompt = Foreword(text=prepared.task.guidance)
    report("measure the prompt", 0, 1)
    floor = None if prepared.task.head else dev(prompt)
    report("measure the prompt", 1, 1, **({} if floor is None else {prepared.task.metric: floor.metric}))
    if not prepared.method.learning_rates:
        return finish(prepared, Outcome(prompt, floor, prompt=prompt, floor=floor, began=began), folder)
    found, alarms = learn(prepared, folder, dev, floor, interrupts)
    course = facts_of(prepared, found.trial)
    if prepared.request.settings.ablate:
        with interrupts.noted():
            course["ablation"] = ablated(prepared, folder, dev, found, interrupts.asked)
    outcome = Outcome.chosen(found, prompt, floor, alarms=tuple(alarms), course=course, began=began)
    return finish(prepared, outcome, folder)


def learn(
    prepared: Prepared, folder: Path, dev: DevScore, floor: Score | None, interrupts: Interrupts
) -> tuple[Sweep, list[str]]:
    """Find the learning rate and train with it; what was found (its trial is there) and what the user should know.

    Args:
        folder: the run's, where the trials keep their checkpoints.
        dev: what chooses.
        floor: the prompt's score, None where there is none or it does not matter here.
        interrupts: asked between steps.

    Raises:
        NothingLearnedError: every learning rate failed.
    """
    with interrupts.noted():
        found = _search(prepared, folder, dev, lambda: distributed.any_of(interrupts.asked()))
    alarms = alarms_of(prepared, found, floor)
    if found.trial is None:
        raise NothingLearnedError(
            "no learning rate worked",
            where=str(folder),
            received="; ".join(alarms),
            hint="look at the data and the prompt first; then try lower rates with `--set sweep=[1e-4,1e-3]`",
        )
    return found, alarms


def _search(prepared: Prepared, folder: Path, dev: DevScore, interrupted: Callable[[], bool]) -> Sweep:
    settings, rates, rows = prepared.request.settings, rates_of(prepared), prepared.examples["train"]
    together = side_by_side(rows, settings, len(rates)) if prepared.method.per_row else 1
    maker = TrialMaker.of(prepared, folder, dev, together)
    progress = SweepProgress(prepared, folder, planned_steps(total_steps(len(rows), settings), len(rates)))

    def make(rate: float) -> Trial:
        return progress.watched(maker.trial(rate))

    sweep = search(rates, make, folder / TRIALS, progress.on_event, interrupted, together)
    progress.end()
    maker.store.clear()
    sweep.speed.update(progress.speed.figures())
    sweep.notes += [*maker.notes(sweep.trial), *progress.log.tracking.failures]
    return sweep


def rates_of(prepared: Prepared) -> tuple[float, ...]:
    """The learning rates that a run tries."""
    settings = prepared.request.settings
    if settings.learning_rate is not None:
        return (settings.learning_rate,)
    return settings.sweep or prepared.method.learning_rates
