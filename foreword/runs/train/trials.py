"""The trials of a run: how each is made, the log of what they did, and what they tell while they run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreword.core.passes.tensor_cache import TensorCache
from foreword.data.quality.row_sampling import TrainingRows
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared, plain_settings, say_nothing
from foreword.runs.trackers.base import Tracking
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.precompute import fitted, keep_work
from foreword.runs.train.training_rows import training_rows_of
from foreword.storage import explained, write_atomically
from foreword.training.events import Evaluated, Step
from foreword.training.loop import Trial
from foreword.training.reuse import Reuse
from foreword.training.throughput import Throughput

TRIALS = "trials"
"""Where in a run's folder its trials keep their checkpoints."""


@dataclass(frozen=True)
class TrialMaker:
    """Makes the trials of one run.

    Args:
        prepared: the run's base, task and rows.
        dev: scores a foreword.
        reuse: what is not computed again in every epoch, in ``store``.
        rows_at_once: rows of a pass at most; 0: no limit.
        rows: the training rows, as they are drawn and varied.
    """

    prepared: Prepared
    dev: DevScore
    reuse: Reuse
    store: TensorCache
    rows_at_once: int
    rows: TrainingRows

    @classmethod
    def of(
        cls, prepared: Prepared, folder: Path, dev: DevScore, together: int, like: TrialMaker | None = None
    ) -> TrialMaker:
        """Of the run in ``folder``, whose steps share their passes with those of ``together`` trials in all.

        Args:
            like: of a run of the same method over these rows and perhaps others, whose kept work serves for both.
        """
        rows = training_rows_of(prepared)
        reuse, store = keep_work(prepared, folder) if like is None else (like.reuse, like.store)
        return cls(prepared, dev, reuse, store, fitted(prepared, folder, together), rows)

    def trial(self, rate: float) -> Trial:
        """A fresh trial of a rate."""
        trial = self.prepared.trial(self.rows, rate, self.dev)
        trial.progress.rows_at_once = self.rows_at_once
        return self.reuse.give(trial)

    def notes(self, trial: Trial | None) -> list[str]:
        """What the user should know of how the winner was trained."""
        notes: list[str] = []
        if trial is not None and trial.progress.rows_at_once != self.rows_at_once:
            notes.append(
                Message(
                    "out of memory: trained with {rows_at_once} rows at a time, with the same result; "
                    "`--batch auto` begins with as many as fit",
                    rows_at_once=trial.progress.rows_at_once,
                )
            )
        if self.reuse.why_not:
            notes.append(Message("every layer was computed in every step: {why_not}", why_not=self.reuse.why_not))
        return notes


class Log:
    """``trainer_log.jsonl``: every step and evaluation of every trial, a line each, as it happens.

    A run that is resumed goes on with its log: lines of steps that were not saved are taken out, as those steps are
    done again, and lines that are missing are put in.

    Args:
        path: the file.
        tracking: where the figures of an evaluation go beside it.
        metric: the name of the metric on dev.
    """

    def __init__(self, path: Path, tracking: Tracking, metric: str) -> None:
        self.path, self.tracking, self.metric = path, tracking, metric
        self._written: dict[float, tuple[int, int]] = {}

    def write(self, trials: Sequence[Trial]) -> None:
        """Write what the trials did since the last call."""
        lines = []
        for trial in trials:
            known = trial.learning_rate in self._written
            steps, evaluations = self._written.get(trial.learning_rate, (0, 0))
            self._track(trial, evaluations if known or not self.path.exists() else len(trial.progress.evaluations))
            new = _lines(trial, steps, evaluations)
            lines += new if known else self._mended(trial.learning_rate, new)
            self._written[trial.learning_rate] = len(trial.progress.steps), len(trial.progress.evaluations)
        if lines:
            with explained(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))

    def close(self) -> None:
        """Nothing more comes."""
        self.tracking.close()

    def _track(self, trial: Trial, seen: int) -> None:
        """Report the evaluations behind the first ``seen``: loss, the metric on dev, and the rate of the step."""
        progress = trial.progress
        for evaluated in progress.evaluations[seen:]:
            values = {f"dev/{self.metric}": evaluated.score.metric, "dev/loss": evaluated.score.loss}
            step = next((step for step in reversed(progress.steps) if step.step <= evaluated.step), None)
            if step is not None:
                values |= {"loss": step.loss, "learning_rate": step.learning_rate}
            self.tracking.log(f"rate-{trial.learning_rate:g}", evaluated.step, values)

    def _mended(self, rate: float, lines: list[str]) -> list[str]:
        """Those of a trial's lines that the file lacks; the trial's lines that are none of them are taken out of it."""
        if not self.path.exists():
            return lines
        found = self.path.read_bytes().decode(errors="replace").splitlines(keepends=True)
        right = set(lines)
        kept = [line for line in found if line in right or (line.endswith("\n") and _trial(line) not in (rate, None))]
        if kept != found:
            write_atomically(self.path, "".join(kept).encode())
        there = set(kept)
        return [line for line in lines if line not in there]


def log_of(prepared: Prepared, folder: Path) -> Log:
    """The log of a run, with the trackers that its settings name."""
    settings = prepared.request.settings
    tracking = Tracking(settings.report_to, folder, plain_settings(settings.to_json()))
    return Log(folder / "trainer_log.jsonl", tracking, prepared.task.metric)


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
        self.log = log_of(prepared, folder)
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
        self.log.close()
        self.report("train", self.planned, self.planned)


def _lines(trial: Trial, steps: int, evaluations: int) -> list[str]:
    """The trial's lines behind its first ``steps`` steps and ``evaluations`` evaluations, in their order."""
    rate, progress = trial.learning_rate, trial.progress
    made: list[tuple[int, int, dict[str, object]]] = []
    for step in progress.steps[steps:]:
        made.append(
            (step.step, 0, {"loss": step.loss, "learning_rate": step.learning_rate, "grad_norm": step.gradient_norm})
        )
    for evaluated in progress.evaluations[evaluations:]:
        score = evaluated.score
        made.append((evaluated.step, 1, {"eval_metric": score.metric, "eval_loss": score.loss, "best": evaluated.best}))
    made.sort(key=lambda line: line[:2])
    return [json.dumps({"trial": rate, "step": step, **values}) + "\n" for step, _, values in made]


def _trial(line: str) -> float | None:
    """The trial that a line of the log is of; None for a line that is damaged."""
    try:
        return float(json.loads(line)["trial"])
    except (ValueError, KeyError, TypeError):
        return None
