"""The end of a budget: what no longer fits is not begun, and a training that is at work stops between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from foreword.runs.train.interrupt import Interrupts
from foreword.settings.budget import Clock


@dataclass
class Deadline(Interrupts):
    """Asked between the steps of a training: has the user pressed Ctrl-C, or is the time for training over?

    Args:
        user: Ctrl-C.
        clock: of the budget.
        reserve: seconds that are kept for what comes behind the training at work.
    """

    user: Interrupts
    clock: Clock
    reserve: float = 0.0
    stopped: bool = field(default=False, init=False)

    def asked(self) -> bool:
        """Whether the training stops here."""
        self.stopped = not self.clock.allows(self.reserve)
        return self.stopped or self.user.asked()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """As :meth:`Interrupts.noted`; the time being over is no reason to throw away what is finished."""
        with self.user.noted():
            yield
