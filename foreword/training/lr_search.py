"""Which learning rate: successive halving (Jamieson & Talwalkar 2016), each trial going on from where it stopped.

Every rate trains for a fifth of the steps, three quarters of them for a half, the best (of a short run the best two) to
the end. The schedule is that of the whole run from the start, so the winner's run is the run it would have been alone
(up to rounding, where trials train side by side). A trial that yields numbers that are not finite is out, and the next
one takes its place.

Rates are judged by the loss on dev: on a few hundred rows it moves far less by chance than an accuracy does. And the
first rung only drops the last ones: half its steps are the warm-up (docs/log.md has a run where it dropped the best).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foreword.training import checkpoint
from foreword.training.loop import Evaluated, Score, Step, Trial
from foreword.training.side_by_side import train_all

RUNGS = (0.2, 0.5, 1.0)
# In a search of at most so many steps the best two go to the end: halfway little can be told of so few.
SHORT = 200


@dataclass
class RateResult:
    """What became of one learning rate."""

    learning_rate: float
    steps: int = 0
    score: Score | None = None
    failure: str | None = None


@dataclass
class Sweep:
    """The whole search: ``trial`` is the winner, None where every rate failed; ``notes`` is what the user should know
    of how it went, and ``speed`` how fast (:meth:`foreword.training.throughput.Throughput.figures`)."""

    trial: Trial | None = None
    results: list[RateResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    speed: dict[str, float] = field(default_factory=dict)


def rungs(total: int, rates: int) -> list[tuple[int, int]]:
    """(steps, trials that go on to it) of each rung, for ``rates`` rates and ``total`` steps."""
    if rates <= 1:
        return [(total, 1)]
    keep = [rates, math.ceil(0.75 * rates), 2 if total <= SHORT else 1]
    return [(max(1, math.ceil(share * total)), n) for share, n in zip(RUNGS, keep, strict=True)]


def planned_steps(total: int, rates: int) -> int:
    """Optimizer steps of the whole search, for estimates."""
    steps, before = 0, 0
    for until, keep in rungs(total, rates):
        steps += keep * (until - before)
        before = until
    return steps


def search(
    rates: Sequence[float],
    make: Callable[[float], Trial],
    folder: Path,
    on_event: Callable[[Trial, Step | Evaluated], None],
    interrupted: Callable[[], bool] = lambda: False,
    side_by_side: int = 1,
) -> Sweep:
    """Find the learning rate and train with it.

    Args:
        rates: what to try, best guesses first; one rate is simply trained.
        make: a fresh trial of a rate.
        folder: where each trial keeps its checkpoint.
        on_event: told of every step and evaluation.
        interrupted: asked after every step; True saves the trial and raises KeyboardInterrupt.
        side_by_side: how many trials train side by side; a resumed search is bit-equal with the same number.
    """
    checkpoint.settle(folder)
    sweep = Sweep(results=[RateResult(rate) for rate in dict.fromkeys(rates)])
    alive = [(result, make(result.learning_rate)) for result in sweep.results]
    plan = rungs(alive[0][1].total, len(alive))
    for result, trial in alive:
        trial.evaluate_at = frozenset(until for until, _ in plan)
        checkpoint.load(trial, checkpoint_of(folder, result.learning_rate))
    waiting: list[tuple[RateResult, Trial]] = []
    for (until, count), keep in zip(plan, [*(n for _, n in plan[1:]), 1], strict=True):
        finished: list[tuple[RateResult, Trial]] = []
        while alive or (waiting and len(finished) < count):
            source, wanted = (alive, len(alive)) if alive else (waiting, count - len(finished))
            pairs = [source.pop(0) for _ in range(min(side_by_side, wanted, len(source)))]
            _advance(pairs, until, folder, on_event, interrupted)
            finished += [pair for pair in pairs if pair[0].failure is None]
        if not finished:
            return sweep
        finished.sort(key=lambda pair: _standing(pair[0]))
        alive, waiting = finished[:keep], [*finished[keep:], *waiting]
    sweep.trial = alive[0][1]
    return sweep


def _standing(result: RateResult) -> float:
    """What trials are ordered by, lower is better; every one has an evaluation at its rung."""
    return math.inf if result.score is None else result.score.loss


def checkpoint_of(folder: Path, rate: float) -> Path:
    """Where the trial of a rate keeps its checkpoint, for a search in ``folder``."""
    return folder / f"{rate!r}" / "checkpoint.safetensors"


def _advance(
    pairs: Sequence[tuple[RateResult, Trial]],
    until: int,
    folder: Path,
    on_event: Callable[[Trial, Step | Evaluated], None],
    interrupted: Callable[[], bool],
) -> None:
    """Train all ``pairs`` side by side up to ``until`` steps."""
    going: list[tuple[RateResult, Trial]] = []
    for result, trial in pairs:
        # A failure counts from its step: a resumed sweep walks through the earlier rungs as before.
        failed = checkpoint.load_failure(checkpoint_of(folder, result.learning_rate))
        if failed is not None and failed.step <= until:
            result.failure = failed.why
        else:
            going.append((result, trial))
    paths = [checkpoint_of(folder, result.learning_rate) for result, _ in going]
    failures = train_all([trial for _, trial in going], on_event, interrupted, until=until, paths=paths)
    for _, trial in going:
        # Of a whole model they are large, and a trial that waits for its next rung has no use for them.
        trial.optimizer.zero_grad(set_to_none=True)
    for (result, _), failure in zip(going, failures, strict=True):
        result.failure = failure.why if failure else None
    for result, trial in pairs:
        result.steps = trial.progress.step
        # The score at this rung, not the best so far: a rate is judged by where it stands after the same steps.
        result.score = next((e.score for e in reversed(trial.progress.evaluations) if e.step <= until), None)
