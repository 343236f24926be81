"""The trials of a run: how each is made, and the log of what they did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foreword.core.passes.tensor_cache import Store
from foreword.data.quality.row_sampling import Course
from foreword.evaluation.predictions import write_atomically
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.precompute import fitted, keep_work
from foreword.runs.train.training_rows import course_of
from foreword.training.loop import Trial
from foreword.training.reuse import Reuse

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
    store: Store
    rows_at_once: int
    rows: Course

    @classmethod
    def of(
        cls, prepared: Prepared, folder: Path, dev: DevScore, together: int, like: TrialMaker | None = None
    ) -> TrialMaker:
        """Of the run in ``folder``, whose steps share their passes with those of ``together`` trials in all.

        Args:
            like: of a run of the same method over these rows and perhaps others, whose kept work serves for both.
        """
        rows = course_of(prepared)
        reuse, store = keep_work(prepared, folder) if like is None else (like.reuse, like.store)
        return cls(prepared, dev, reuse, store, fitted(prepared, folder, together), rows)

    def trial(self, rate: float) -> Trial:
        """A fresh trial of a rate."""
        trial = self.prepared.trial(self.rows, rate, self.dev)
        trial.progress.rows_at_once = self.rows_at_once
        return self.reuse.give(trial)

    def notes(self, trial: Trial | None) -> list[str]:
        """What the user should know of how the winner was trained."""
        notes = []
        if trial is not None and trial.progress.rows_at_once != self.rows_at_once:
            notes.append(
                f"out of memory: trained with {trial.progress.rows_at_once} rows at a time, with the same result; "
                "`--batch auto` begins with as many as fit"
            )
        return notes + ([f"every layer was computed in every step: {self.reuse.why_not}"] if self.reuse.why_not else [])


@dataclass(frozen=True)
class Log:
    """``trainer_log.jsonl``: every step and evaluation of every trial, written anew as a whole, so that a resumed run
    has each once."""

    path: Path

    def write(self, trials: Sequence[Trial]) -> None:
        """Write what the trials did so far."""
        lines = []
        for trial in trials:
            for step in trial.progress.steps:
                lines.append(
                    {
                        "trial": trial.learning_rate,
                        "step": step.step,
                        "loss": step.loss,
                        "learning_rate": step.learning_rate,
                        "grad_norm": step.gradient_norm,
                    }
                )
            for one in trial.progress.evaluations:
                lines.append(
                    {
                        "trial": trial.learning_rate,
                        "step": one.step,
                        "eval_metric": one.score.metric,
                        "eval_loss": one.score.loss,
                        "best": one.best,
                    }
                )
        lines.sort(key=lambda line: (line["trial"], line["step"]))
        write_atomically(self.path, (json.dumps(line).encode() + b"\n" for line in lines))
