"""How fast a run trains: tokens a second, and the share of the arithmetic floor that is reached."""

from __future__ import annotations

import time
from functools import cache, cached_property

import torch
from transformers import PreTrainedModel

from foreword.core.passes.flops import matrix_rate, operations


@cache
def _rate(device: torch.device, dtype: torch.dtype) -> float:
    return matrix_rate(device, dtype)


class Throughput:
    """Counts the steps of a run; ask it :meth:`begin` after anything that is not training.

    Args:
        model: the base.
        trained: whether the base's own weights train.
    """

    def __init__(self, model: PreTrainedModel, trained: bool = False) -> None:
        self._model, self._trained = model, trained
        self.tokens, self.seconds = 0, 0.0
        self.begin()

    @cached_property
    def _floor(self) -> float | None:
        """Seconds that the arithmetic of a token takes here; None where it cannot be counted."""
        count = operations(self._model, 1, self._trained)
        return count / _rate(self._model.device, self._model.dtype) if count else None

    def begin(self) -> None:
        """The time until now was not a step's."""
        self._last = time.perf_counter()

    def step(self, tokens: int) -> dict[str, float]:
        """A step over ``tokens`` tokens has ended; the figures so far."""
        now = time.perf_counter()
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + now - self._last
        self._last = now
        return self.figures()

    def figures(self) -> dict[str, float]:
        """``tokens_per_second`` (the rows' own, padding and virtual tokens not counted) and ``share_of_floor``: the
        time that the arithmetic alone would take here, to the time it took. Empty before the first step."""
        if not self.seconds:
            return {}
        speed = self.tokens / self.seconds
        found = {"tokens_per_second": round(speed, 1)}
        return found | ({"share_of_floor": round(speed * self._floor, 3)} if self._floor else {})
