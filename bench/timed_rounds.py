"""Simulations that share out a time: every condition gets as many rounds as there is time for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

Row = dict[str, Any]
Condition = TypeVar("Condition")


def rounds(seconds: float) -> Iterator[int]:
    """Round numbers while another round, as long as the longest so far, fits into the time; at least one."""
    began, longest, number = time.monotonic(), 0.0, 0
    while number == 0 or time.monotonic() - began + longest <= seconds:
        start = time.monotonic()
        yield number
        longest, number = max(longest, time.monotonic() - start), number + 1


def averaged(
    every: Sequence[Condition], make: Callable[[Condition, int], Row | None], figures: Collection[str], seconds: float
) -> list[Row]:
    """What ``make`` measures of every condition, with the mean of ``figures`` over all rounds; the others are those of
    the first round. A condition of which nothing can be measured is left out."""
    sums: dict[int, Row] = {}
    for number in rounds(seconds):
        for index, condition in enumerate(every):
            row = make(condition, number)
            if row is None:
                continue
            known = sums.setdefault(index, {**row, **{name: 0.0 for name in figures if name in row}, "rounds": 0})
            known |= {name: known[name] + row[name] for name in figures if name in row} | {"rounds": number + 1}
    return [
        {name: value / row["rounds"] if name in figures else value for name, value in row.items()}
        for row in sums.values()
    ]
