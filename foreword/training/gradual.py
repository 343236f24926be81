"""Gradual introduction: how many of a step's rows have the guidance changes over the training.

Which rows have it follows from the seed, the step's number and the row's, so that a resumed run sees the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from foreword.data.tokens.examples import Example
from foreword.settings.values import shares


@dataclass(frozen=True)
class Gradual:
    """The rows without the guidance, and which of them a step sees instead of those with it.

    Args:
        share: the setting ``guidance_share``: of the rows with the guidance, at the first and at the last step.
        total: steps of the whole training.
    """

    plain: Sequence[Example]
    share: str
    total: int
    seed: int

    def at(self, step: int) -> float:
        """The share of rows with the guidance in step ``step`` (from 0)."""
        first, last = shares(self.share)
        return first + (last - first) * min(1.0, step / max(1, self.total - 1))

    def __call__(self, step: int, index: int) -> Example | None:
        """Row ``index`` without the guidance where step ``step`` sees it so; None: with it."""
        dice = random.Random(f"{self.seed}/{step}/{index}")
        return None if dice.random() < self.at(step) else self.plain[index]
