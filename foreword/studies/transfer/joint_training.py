"""Several tasks trained together on one base: one foreword each, and a part that all of them learn.

The tasks take turns, a step each; a task with fewer rows is done earlier. Each keeps its own best state on dev, and a
prompt that was not beaten is saved instead, as in a run alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from foreword.core.inject.value import Foreword
from foreword.errors import Interrupted, NothingLearnedError, SettingsError
from foreword.methods.base import make_writer
from foreword.runs.prepare.prepare import Prepared, prepare, say_nothing
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.finish import finish
from foreword.runs.train.interrupt import interruptible
from foreword.runs.train.outcome import Outcome
from foreword.runs.train.result import TrainResult
from foreword.runs.train.run_record import record_run
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.training import checkpoint
from foreword.training.checkpoint import Failure
from foreword.training.loop import Evaluated, NotFinite, Trial
from foreword.training.lr_search import RateResult, Sweep
from foreword.training.shared_writers import sharing

_SAVE_EVERY = 20.0


def together(
    requests: Mapping[str, TrainRequest], folder: str | Path, progress: ProgressCall | None = None
) -> dict[str, TrainResult]:
    """Train the tasks of ``requests`` (name -> request) together; each request's folder gets a whole run's files.

    ``folder`` keeps the checkpoints, a folder for each task. The one learning rate is that of the settings, or the
    first of the method's. Requests with ``resume`` go on.

    Raises:
        SettingsError: fewer than two tasks, different bases or methods, or a method that trains nothing.
        NothingLearnedError: a task's numbers stopped being finite before anything was evaluated.
        Interrupted: stopped by the user; the last state is saved.
    """
    began, report = time.monotonic(), progress or say_nothing
    _check(requests)
    prepared = {name: prepare(request) for name, request in requests.items()}
    prompts = {name: Foreword(text=one.task.guidance) for name, one in prepared.items()}
    dev = {
        name: DevScore(one.asker, one.examples["dev"], partial(report, f"{name}: evaluate on dev"))
        for name, one in prepared.items()
    }
    for name, one in prepared.items():
        record_run(Path(requests[name].output_dir), one)
    floors = {name: None if one.task.head else dev[name](prompts[name]) for name, one in prepared.items()}
    trials = _trials(prepared, dev)
    failures = _train(trials, Path(folder), report)
    results = {}
    for name, trial in trials.items():
        best, failure = trial.progress.best, failures[name]
        if best is None:
            raise NothingLearnedError(
                "nothing was learned together", where=name, received=failure, hint="lower learning_rate"
            )
        sweep = Sweep(trial, [RateResult(trial.learning_rate, trial.progress.step, best, failure or None)])
        alarms = (failure,) if failure else ()
        outcome = Outcome.chosen(sweep, prompts[name], floors[name], alarms=alarms, began=began)
        results[name] = finish(prepared[name], outcome, Path(requests[name].output_dir))
    return results


def _check(requests: Mapping[str, TrainRequest]) -> None:
    if len(requests) < 2:
        raise SettingsError("training together takes two tasks or more", received=len(requests))
    for what in ("base", "method", "method_settings"):
        found = {name: getattr(request, what) for name, request in requests.items()}
        first = next(iter(found.values()))
        other = next((name for name, value in found.items() if value != first), None)
        if other is not None:
            raise SettingsError(
                f"tasks that train together have one {what}", where=other, expected=first, received=found[other]
            )


def _trials(prepared: Mapping[str, Prepared], dev: Mapping[str, DevScore]) -> dict[str, Trial]:
    writers = sharing([make_writer(one.method, one.start) for one in prepared.values()])
    trials = {}
    for (name, one), writer in zip(prepared.items(), writers, strict=True):
        settings = one.request.settings
        if not one.method.learning_rates:
            raise SettingsError("this method trains nothing", where="--method", received=one.method.name)
        rate = settings.learning_rate or (settings.sweep or one.method.learning_rates)[0]
        objective = one.objective(writer)
        trials[name] = Trial(one.base.model, writer, objective, one.examples["train"], settings, rate, dev[name])
    return trials


def _train(trials: Mapping[str, Trial], folder: Path, report: ProgressCall) -> dict[str, str]:
    """Step by step in turns; why a task stopped before its end, "" where it did not."""
    kept = _Checkpoints(trials, folder)
    with interruptible() as interrupts:
        try:
            with interrupts.noted():
                return _rounds(trials, kept, report, interrupts.asked)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; the last state of the tasks is saved", hint="give the same command again: it goes on"
            ) from None


def _rounds(
    trials: Mapping[str, Trial], kept: _Checkpoints, report: ProgressCall, interrupted: Callable[[], bool]
) -> dict[str, str]:
    planned = sum(trial.total for trial in trials.values())
    longest = max(trial.total for trial in trials.values())
    for step in range(1, longest + 1):
        evaluated = False
        for name, trial in trials.items():
            if name in kept.failures or trial.progress.step >= min(step, trial.total) or trial.progress.stopped:
                continue
            try:
                for event in trial.run(step):
                    evaluated |= isinstance(event, Evaluated)
            except NotFinite as problem:
                kept.failures[name] = Failure(problem.step, problem.problem)
            done = sum(one.progress.step for one in trials.values())
            report("train together", done, planned, task=name)
        stop = interrupted()
        kept.after_round(evaluated or stop)
        if stop:
            raise KeyboardInterrupt
    kept.after_round(True)
    report("train together", planned, planned)
    return {name: kept.failures[name].why if name in kept.failures else "" for name in trials}


class _Checkpoints:
    """The tasks' checkpoints, all of one round: the shared part is in each of them and must be one and the same."""

    def __init__(self, trials: Mapping[str, Trial], folder: Path) -> None:
        self.trials, self.last = trials, time.monotonic()
        self.paths = {name: folder / name / "checkpoint.safetensors" for name in trials}
        checkpoint.settle(folder)
        self.failures: dict[str, Failure] = {}
        for name, trial in trials.items():
            checkpoint.load(trial, self.paths[name])
            failed = checkpoint.load_failure(self.paths[name])
            if failed is not None:
                self.failures[name] = failed

    def after_round(self, now: bool) -> None:
        """Save where it is time."""
        if now or time.monotonic() - self.last > _SAVE_EVERY:
            entries = [(trial, self.paths[name], self.failures.get(name)) for name, trial in self.trials.items()]
            checkpoint.save_all(entries)
            self.last = time.monotonic()
