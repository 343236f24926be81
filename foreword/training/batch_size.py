"""How many rows go through the base at a time: as many as memory holds, found with few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from foreword.core.passes.memory import available, in_use, peak
from foreword.data.tokens.examples import Example
from foreword.training.loop import Trial, advance

# What may go otherwise than foreseen: other rows, the allocator's gaps.
_SPARE = 0.8
_FEW = 4


def rows_that_fit(make: Callable[[Sequence[Example]], Sequence[Trial]], rows: Sequence[Example], limit: int = 0) -> int:
    """The rows of a pass that fit in memory: all of a step's, or half of them, a quarter, ...; 0 for all.

    Steps over one of the longest rows and over a few are made and measured, and the rest is a straight line: to try the
    whole batch would be to run out of memory, which not every system survives.

    Args:
        make: fresh trials over the given rows; they are used and dropped.
        rows: the training rows.
        limit: bytes that training may take; 0 means what is free.
    """
    longest = sorted(rows, key=lambda row: -len(row.input_ids) - len(row.target_ids))
    first = make(longest)
    whole = sum(min(trial.settings.batch_rows, len(rows)) for trial in first)
    device = first[0].model.device
    room = (limit or available(device)) * _SPARE
    before, few = in_use(device), min(_FEW, whole)

    def taken(count: int) -> int:
        trial = make(longest[:count])[0]
        trial.settings = replace(trial.settings, gradient_accumulation_steps=1)
        return peak(device, lambda: next(advance([trial], 1))) - before

    one, several = taken(1), taken(few)
    if not room or whole == 1 or few == 1:
        return 0
    each = max(0.0, (several - one) / (few - 1))
    count = whole
    while count > 1 and several + each * (count - few) > room:
        count = -(-count // 2)
    return 0 if count == whole else count
