"""What a sweep of learning rates tells while it runs: the caller's progress, and the log of its trials."""

from __future__ import annotations

from pathlib import Path

from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.runs.train.trials import Log
from foreword.training.events import Evaluated, Step
from foreword.training.loop import Trial
from foreword.training.throughput import Throughput


class SweepProgress:
    """Counts the steps of all trials of a sweep.

    Args:
        prepared: the run, whose progress call is told.
        folder: the run's, for the log.
        planned: optimizer steps of the whole sweep.
    """

    def __init__(self, prepared: Prepared, folder: Path, planned: int) -> None:
        self.report = prepared.request.progress or say_nothing
        self.metric, self.planned = prepared.task.metric, planned
        self.log = Log(folder / "trainer_log.jsonl")
        self.speed = Throughput(prepared.base.model, trained=not prepared.method.per_row)
        self.trials: list[Trial] = []

    def watched(self, trial: Trial) -> Trial:
        """Count ``trial`` too; returns it."""
        self.trials.append(trial)
        return trial

    def on_event(self, trial: Trial, event: Step | Evaluated) -> None:
        """Tell of a step or an evaluation."""
        # Counted anew each time: a resumed run has steps behind it, and one that takes a failed one's place adds some.
        done = min(self.planned, sum(one.progress.step for one in self.trials))
        self.log.write([trial])
        if isinstance(event, Step):
            figures = self.speed.step(trial.tokens(event.step - 1))
            self.report("train", done, self.planned, learning_rate=trial.learning_rate, loss=event.loss, **figures)
        else:
            self.report("train", done, self.planned, **{f"dev {self.metric}": event.score.metric})
            self.speed.begin()

    def end(self) -> None:
        """Tell that the sweep is over, however many steps it took."""
        self.report("train", self.planned, self.planned)
