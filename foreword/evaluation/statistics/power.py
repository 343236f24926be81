"""What a test set can show before anything is computed, and several comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist


def _needed(difference: float, discordance: float, level: float, power: float) -> float:
    """Rows for a paired test of proportions (Connor 1987), as a real number."""
    normal = NormalDist()
    share = max(discordance, difference)
    reach = normal.inv_cdf(0.5 + level / 2) * math.sqrt(share)
    reach += normal.inv_cdf(power) * math.sqrt(max(0.0, share - difference**2))
    return (reach / difference) ** 2


def minimum_detectable_difference(
    rows: int,
    *,
    discordance: float = 0.2,
    deviation: float | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> float:
    """The smallest true paired difference that ``rows`` rows show with the given power.

    Args:
        rows: N.
        discordance: share of rows that exactly one of two systems gets right (proportions, 0 to 1).
        deviation: standard deviation of the difference a row, for other metrics; replaces ``discordance``.
        level: 1 minus the two-sided error.

    Returns the difference in the metric's unit; 1.0 for proportions when no difference could be shown.
    """
    if rows < 1:
        raise ValueError("there are no rows")
    if deviation is not None:
        normal = NormalDist()
        return (normal.inv_cdf(0.5 + level / 2) + normal.inv_cdf(power)) * deviation / math.sqrt(rows)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _needed(middle, discordance, level, power) <= rows else (middle, high)
    return high


def rows_needed(difference: float, *, discordance: float = 0.2, level: float = 0.95, power: float = 0.8) -> int:
    """Rows that show a true difference of paired proportions with the given power."""
    if not 0 < difference <= 1:
        raise ValueError(f"a difference of proportions lies between 0 and 1, not {difference}")
    return math.ceil(_needed(difference, discordance, level, power) - 1e-9)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: comparing each to 0.05 keeps the family's error at 5%."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
