"""Several runs of one base side by side, one rate each: their steps share passes, and each ends as it would alone.

Their checkpoints stand where those of a run alone do, so a run goes on by itself when the others are finished.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foreword.runs.prepare.prepare import Prepared
from foreword.runs.train.alarms import alarms_of
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.interrupt import Interrupts
from foreword.runs.train.trials import TRIALS, TrialMaker, log_of
from foreword.settings.schema import ProgressCall
from foreword.training import checkpoint
from foreword.training.checkpoint import Failure
from foreword.training.loop import Evaluated, Step, Trial
from foreword.training.lr_search import RateResult, Sweep, checkpoint_of
from foreword.training.side_by_side import train_all
from foreword.training.throughput import Throughput


@dataclass(frozen=True)
class Run:
    """One of the runs.

    Args:
        prepared: with the one learning rate in its settings.
        folder: of the run.
        dev: what chooses its best step.
        began: when, on the clock that only goes forward.
    """

    prepared: Prepared
    folder: Path
    dev: DevScore
    began: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Its learning rate."""
        rate = self.prepared.request.settings.learning_rate
        assert rate is not None
        return rate


def learn_side_by_side(
    runs: Sequence[Run], folder: Path, interrupts: Interrupts, report: ProgressCall
) -> list[tuple[Sweep, list[str]]]:
    """Train ``runs`` side by side; for each what :func:`foreword.runs.train.train.learn` gives, in their order.

    A run whose numbers stop being finite has no trial in its sweep; the others go on.

    Args:
        runs: of methods whose rows can share a pass; those of one method have the same rows or some of them.
        folder: above those of the runs.
        interrupts: asked between steps.
        report: told of the steps of all runs together.
    """
    with interrupts.noted():
        sweeps = _trained(runs, folder, interrupts, report)
    return [(found, alarms_of(run.prepared, found, None)) for run, found in zip(runs, sweeps, strict=True)]


def _makers(runs: Sequence[Run]) -> list[TrialMaker]:
    """The makers of all runs; those of one method share what the base computed for the one with the most rows."""
    made: dict[int, TrialMaker] = {}
    for number in sorted(range(len(runs)), key=lambda number: -len(runs[number].prepared.examples["train"])):
        run = runs[number]
        like = next((one for one in made.values() if one.prepared.method == run.prepared.method), None)
        made[number] = TrialMaker.of(run.prepared, run.folder, run.dev, len(runs), like)
    return [made[number] for number in range(len(runs))]


def _trained(runs: Sequence[Run], folder: Path, interrupts: Interrupts, report: ProgressCall) -> list[Sweep]:
    checkpoint.settle(folder)
    makers = _makers(runs)
    trials = [maker.trial(run.rate) for maker, run in zip(makers, runs, strict=True)]
    paths = [checkpoint_of(run.folder / TRIALS, run.rate) for run in runs]
    failures: list[Failure | None] = []
    for trial, path in zip(trials, paths, strict=True):
        checkpoint.load(trial, path)
        failures.append(checkpoint.load_failure(path))
    logs = {trial: log_of(run.prepared, run.folder) for trial, run in zip(trials, runs, strict=True)}
    planned, pace = sum(trial.total for trial in trials), Throughput(trials[0].model)

    def on_event(trial: Trial, event: Step | Evaluated) -> None:
        done = sum(one.progress.step for one in trials)
        logs[trial].write([trial])
        if isinstance(event, Step):
            speed = pace.step(trial.tokens(event.step - 1))
            report("train", done, planned, seed=trial.settings.seed, loss=event.loss, **speed)
        else:
            report("train", done, planned, seed=trial.settings.seed, dev=event.score.metric)
            pace.begin()

    going = [number for number, failure in enumerate(failures) if failure is None]
    found = train_all(
        [trials[n] for n in going], on_event, interrupts.asked, paths=[paths[n] for n in going], folder=folder
    )  # fmt: skip
    for number, failure in zip(going, found, strict=True):
        failures[number] = failure
    report("train", planned, planned)
    sweeps = []
    for maker, trial, failure in zip(makers, trials, failures, strict=True):
        logs[trial].write([trial])
        logs[trial].close()
        maker.store.clear()
        sweeps.append(_told(maker, trial, failure, pace))
    return sweeps


def _told(maker: TrialMaker, trial: Trial, failure: Failure | None, pace: Throughput) -> Sweep:
    made = trial.progress.evaluations
    outcome = RateResult(trial.learning_rate, trial.progress.step, made[-1].score if made else None)
    if failure is not None:
        outcome.failure = failure.why
        return Sweep(None, [outcome])
    return Sweep(trial, [outcome], maker.notes(trial), pace.figures())
