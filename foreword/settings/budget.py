"""How much time a piece of work may take: ``20min``, ``1h30m``, ``light``; and a clock that knows what is left."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from foreword.errors import SettingsError

LEVELS = {"light": 300.0, "medium": 1200.0, "heavy": 7200.0}
"""Names of budgets, in seconds."""
_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def budget_seconds(text: str, where: str = "--budget") -> float:
    """Seconds of ``90s``, ``20min``, ``1h30m``, a plain number of seconds, ``light``, ``medium`` or ``heavy``.

    Raises:
        SettingsError: it is none of them, or not above 0.
    """
    asked = text.strip().lower()
    if asked in LEVELS:
        return LEVELS[asked]
    parts = _PART.findall(asked)
    if parts and _PART.sub("", asked) == "" and all(unit in _UNITS for _, unit in parts):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if seconds > 0:
            return seconds
    raise SettingsError(
        "not a budget", where=where, expected="a time such as 90s, 20min, 1h30m; or light, medium, heavy", received=text
    )


@dataclass
class Clock:
    """Counts the seconds of a budget; None never ends.

    Args:
        seconds: the budget.
        before: seconds that an interrupted run has spent already.
    """

    seconds: float | None
    before: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self.began

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether work of so many seconds still fits."""
        return self.seconds is None or self.spent + seconds < self.seconds
