"""The trials of a run: how each is made, and the log of what they did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreword.core.passes.tensor_cache import Store
from foreword.data.quality.row_sampling import Course
from foreword.data.tokens.examples import Example
from foreword.evaluation.predictions import write_atomically
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.precompute import fitted, keep_work
from foreword.runs.train.training_rows import course_of, mixed
from foreword.training.loop import Trial
from foreword.training.reuse import Reuse

TRIALS = "trials"
"""Where in a run's folder its trials keep their checkpoints."""


@dataclass(frozen=True)
class Maker:
    """Makes the trials of one run.

    Args:
        prepared: the run's base, task and rows.
        dev: scores a foreword.
        kept: what is not computed again in every epoch, in ``store``.
        rows_at_once: rows of a pass at most; 0: no limit.
        course: how the rows are drawn and varied; ``seen``: with and without the guidance.
    """

    prepared: Prepared
    dev: DevScore
    kept: Reuse
    store: Store
    rows_at_once: int
    course: Course | None
    seen: Callable[[int, int], Example | None]

    @classmethod
    def of(cls, prepared: Prepared, folder: Path, dev: DevScore, together: int, like: Maker | None = None) -> Maker:
        """Of the run in ``folder``, whose steps share their passes with those of ``together`` trials in all.

        Args:
            like: of a run of the same method over these rows and perhaps others, whose kept work serves for both.
        """
        course, seen = course_of(prepared), mixed(prepared)
        kept, store = keep_work(prepared, folder) if like is None else (like.kept, like.store)
        return cls(prepared, dev, kept, store, fitted(prepared, folder, together), course, seen)

    def trial(self, rate: float, evaluate_at: frozenset[int] = frozenset()) -> Trial:
        """A fresh trial of a rate."""
        base, rows, settings = self.prepared.base, self.prepared.examples["train"], self.prepared.request.settings
        writer = self.prepared.writer()
        objective = self.prepared.objective(writer)
        trial = Trial(
            base.model, writer, objective, rows, settings, rate, self.dev, evaluate_at, self.course, self.seen
        )  # fmt: skip
        trial.progress.rows_at_once = self.rows_at_once
        return self.kept.give(trial)

    def notes(self, trial: Trial | None) -> list[str]:
        """What the user should know of how the winner was trained."""
        notes = []
        if trial is not None and trial.progress.rows_at_once != self.rows_at_once:
            notes.append(
                f"out of memory: trained with {trial.progress.rows_at_once} rows at a time, with the same result; "
                "`--batch auto` begins with as many as fit"
            )
        return notes + ([f"every layer was computed in every step: {self.kept.why_not}"] if self.kept.why_not else [])


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
