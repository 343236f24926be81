"""Which of two is better, asked after every answer that comes in, without paying for having looked.

Testing by betting (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting"): the i-th
score of A and the i-th of B make a pair with the difference d in -1..1. Were both equally good, nobody could win by
betting on d whatever the stakes, which follow from earlier pairs alone: the gambler's capital is a nonnegative
martingale, and by Ville's inequality it ever reaches 1/alpha with probability alpha at most. So the test may be read,
and stopped, at any time. Differences m against which a gambler did not win either make an interval that covers the true
one at all times together.

Here: the stakes are the paper's approximate growth-rate-adaptive ones, half the capital at most; half of the capital
bets on B, half on A (the paper hedges in the same way).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arm = Literal["a", "b"]
# Candidate differences; 0 is among them.
_GRID = np.linspace(-1.0, 1.0, 401)
_ZERO = len(_GRID) // 2
_MOST = 0.5


@dataclass(frozen=True)
class SequentialResult:
    """Where a test stands.

    Args:
        pairs: scores of both that were compared.
        difference: mean score of B less that of A, over the pairs; 0 without any.
        low, high: of the difference, at level 1 - alpha, valid at all times together.
        p: the smallest alpha at which the test would have ended up to now.
        better: the one that is better at level alpha; None: open.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p: float
    better: Arm | None


@dataclass
class SequentialTest:
    """Scores in 0..1 of A and B, as they come in.

    Args:
        alpha: the probability of ever calling one better when they are equal.
    """

    alpha: float = 0.05
    _waiting: dict[Arm, deque[float]] = field(default_factory=lambda: {"a": deque(), "b": deque()})
    _up: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_GRID)))
    _down: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_GRID)))
    _most: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(_GRID)))
    _count: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, arm: Arm, score: float) -> None:
        """One more score. Raises ValueError for one outside 0..1."""
        if not 0 <= score <= 1:
            raise ValueError(f"a score lies in 0..1, received {score}")
        self._waiting[arm].append(score)
        if self._waiting["a"] and self._waiting["b"]:
            self._bet(self._waiting["b"].popleft() - self._waiting["a"].popleft())

    def _bet(self, difference: float) -> None:
        """The stakes first, which know earlier pairs only; then what the pair pays, for each candidate difference."""
        mean = self._sum / (self._count + 1)
        variance = (self._squares + 0.25) / (self._count + 1) - mean**2
        gap = mean - _GRID
        stakes = gap / (max(variance, 1e-4) + gap**2)
        # d - m lies in -1-m..1-m: so large a stake can lose half of the capital and no more.
        bound = _MOST / (1 + np.abs(_GRID))
        for capital, sign in ((self._up, 1), (self._down, -1)):
            capital += np.log1p(np.clip(sign * stakes, 0, bound) * sign * (difference - _GRID))
        hedged = np.logaddexp(self._up, self._down) - np.log(2)
        np.maximum(self._most, hedged, out=self._most)
        self._count += 1
        self._sum += difference
        self._squares += difference**2

    def result(self) -> SequentialResult:
        """Where the test stands now."""
        open_ = _GRID[self._most < -np.log(self.alpha)]
        difference = self._sum / self._count if self._count else 0.0
        # Every candidate may have been ruled out, where what is measured changes; the mean is then all that is known.
        low, high = (float(open_[0]), float(open_[-1])) if len(open_) else (difference, difference)
        p = float(np.exp(-self._most[_ZERO]))
        better: Arm | None = None if p > self.alpha else "b" if self._up[_ZERO] > self._down[_ZERO] else "a"
        return SequentialResult(self._count, difference, low, high, p, better)
