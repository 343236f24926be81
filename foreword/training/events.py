"""What happens while a trial trains: steps, evaluations, numbers that are not finite; and all that it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from foreword.errors import TrainingError


class NotFinite(TrainingError):
    """A loss or a gradient is NaN or infinite: the learning rate is too high, or the base overflows in its precision.

    ``step`` is the number of the step (from 1) that was, or led to, what is not finite.
    """

    def __init__(self, problem: str, step: int, received: str) -> None:
        hint = "lower the learning rate, or use dtype float32"
        super().__init__(problem, expected="a finite loss and gradient", received=received, hint=hint)
        self.step = step


@dataclass(frozen=True)
class Score:
    """What an evaluation on dev says.

    Args:
        metric: the task's metric, higher is better (perplexity comes negated).
        loss: mean -log p.
        constant: whether every prediction was the same.
        unrelated: p-value of the labels hit, if answers were dealt out at random; 0 where there are no labels.
    """

    metric: float
    loss: float
    constant: bool = False
    unrelated: float = 0.0

    def above(self, other: Score | None) -> bool:
        """Better on the metric; an equal one is not, whatever its loss."""
        return other is None or self.metric > other.metric

    def beats(self, other: Score | None) -> bool:
        """Better on the metric, or equal there with a lower loss."""
        return other is None or (self.metric, -self.loss) > (other.metric, -other.loss)


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number (from 1), mean loss, learning rate and gradient norm before clipping."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class Evaluated:
    """One evaluation on dev after ``step`` steps."""

    step: int
    score: Score
    best: bool


@dataclass
class TrialState:
    """What a trial has seen so far; all of it is saved.

    ``rows_at_once``: rows of a pass at most, since memory ran out; 0: as many as a batch has. ``loss_scale``: what the
    losses of a float16 base are multiplied by before backward; 0: not known yet, or another number format.
    """

    step: int = 0
    best_step: int = 0
    best: Score | None = None
    without_gain: int = 0
    stopped: bool = False
    steps: list[Step] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    rows_at_once: int = 0
    loss_scale: float = 0.0
