"""Trials that train side by side, saved together so that a kill at any moment leaves them at one and the same round.

Which rows meet in a pass moves the last bits of a result, so trials that shared passes have to share them again when
they are gone on with: their checkpoints are of one round or of none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from foreword.data.tokens.examples import Example
from foreword.settings.schema import TrainSettings
from foreword.training import checkpoint
from foreword.training.checkpoint import Failure
from foreword.training.loop import Evaluated, NotFinite, Step, Trial, advance

# Seconds between checkpoints in the middle of a trial: what a kill can cost at most.
_SAVE_EVERY = 20.0
# Tokens of a pass above which another trial's rows save little, and cost the memory of their activations. SmolLM2-135M,
# two cores, 167 tokens a trial: 2, 4 and 8 trials in a pass are 1.17, 1.31 and 1.40 times as fast as one by one.
_FULL = 1536


def side_by_side(rows: Sequence[Example], settings: TrainSettings, trials: int) -> int:
    """How many of ``trials`` trials train side by side: all or one where the settings say so, else as many as fill a
    pass.

    Depends on the rows and the settings alone, so that a resumed run groups its trials as before.
    """
    if settings.side_by_side != "auto":
        return trials if settings.side_by_side == "on" else 1
    tokens = sum(len(row.input_ids) + len(row.target_ids) for row in rows) / max(1, len(rows))
    batch = tokens * min(settings.batch_rows, len(rows))
    return min(trials, max(1, int(_FULL / max(1.0, batch))))


def train_all(
    trials: Sequence[Trial],
    on_event: Callable[[Trial, Step | Evaluated], None] = lambda trial, event: None,
    interrupted: Callable[[], bool] = lambda: False,
    *,
    until: int | None = None,
    paths: Sequence[Path] | None = None,
    folder: Path | None = None,
) -> list[Failure | None]:
    """Train every trial, in passes that they share; each ends as it would alone, up to rounding.

    Args:
        trials: of one base; with other rates, seeds, rows, or tasks of one kind.
        on_event: told of every step and evaluation.
        interrupted: asked after every event; True saves the trials and raises KeyboardInterrupt.
        until: steps of each trial at most; None means all.
        paths: where each trial keeps its checkpoint, each in a folder of its own. None keeps nothing. Loading them
            (:func:`foreword.training.checkpoint.load`) is the caller's.
        folder: above these folders, where :func:`foreword.training.checkpoint.settle` finds a set that was cut off;
            None: they stand beside each other, in it.

    Returns:
        For each trial why it is out, None for those that are not.
    """
    kept = _Checkpoints(trials, paths, folder)
    for trial, event in advance(trials, until):
        if isinstance(event, NotFinite):
            kept.failures[trial] = Failure(event.step, event.problem)
        stop = interrupted()
        kept.after(trial, event, now=stop)
        if stop:
            raise KeyboardInterrupt
        if not isinstance(event, NotFinite):
            on_event(trial, event)
    kept.save()
    return [kept.failures.get(trial) for trial in trials]


class _Checkpoints:
    """Saves the trials as a set: after evaluations, every ``save_steps``, now and then, and at once when told to."""

    def __init__(self, trials: Sequence[Trial], paths: Sequence[Path] | None, folder: Path | None) -> None:
        self.trials, self.paths, self.folder = trials, paths, folder
        self.failures: dict[Trial, Failure] = {}
        self.saved, self.last, self.wanted = self._standing(), time.monotonic(), False

    def after(self, trial: Trial, event: Step | Evaluated | NotFinite, now: bool) -> None:
        every = trial.settings.save_steps
        regular = not isinstance(event, Step) or (every > 0 and event.step % every == 0)
        self.wanted |= regular or time.monotonic() - self.last > _SAVE_EVERY
        # Not between a step and its evaluation, unless it is the last chance.
        settled = not any(one.owes for one in self.trials if one not in self.failures)
        if now or (self.wanted and settled):
            self.save()

    def save(self) -> None:
        if self.paths is None or self._standing() == self.saved:
            return
        pairs = zip(self.trials, self.paths, strict=True)
        checkpoint.save_all([(trial, path, self.failures.get(trial)) for trial, path in pairs], self.folder)
        self.saved, self.last, self.wanted = self._standing(), time.monotonic(), False

    def _standing(self) -> list[tuple[int, int, bool]]:
        return [(one.progress.step, len(one.progress.evaluations), one in self.failures) for one in self.trials]
