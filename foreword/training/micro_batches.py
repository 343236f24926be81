"""A batch in the passes it takes: one where rows lie end to end, else parts of like length with less padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from transformers import PreTrainedModel

from foreword.core.attention.packable import packable


class Row(Protocol):
    """What a part is made of: an example, or one with what belongs to it."""

    @property
    def input_ids(self) -> tuple[int, ...]: ...

    @property
    def target_ids(self) -> tuple[int, ...]: ...


R = TypeVar("R", bound=Row)

# What a pass costs beside its tokens, in tokens: launching operations, reading the weights. Measured: docs/log.md.
_PASS = 96


def parts_of(model: PreTrainedModel, rows: Sequence[R]) -> list[list[R]]:
    """The rows of each pass over a batch."""
    return [list(rows)] if packable(model) else without_padding(rows)


def without_padding(rows: Sequence[R]) -> list[list[R]]:
    """Split a batch by length where the padding that it saves is worth another pass.

    The gradient of a sum does not depend on how its terms are grouped, so a step over the parts is the step over the
    batch (up to the order of additions). Among all ways to cut the rows sorted by length, the one with the least cost:
    padded tokens of every part, and a constant for each.
    """
    order = sorted(rows, key=lambda row: len(row.input_ids) + len(row.target_ids))
    lengths = [len(row.input_ids) + len(row.target_ids) for row in order]
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        best.append(min((best[start][0] + (end - start) * lengths[end - 1] + _PASS, start) for start in range(end)))
    parts: list[list[R]] = []
    end = len(order)
    while end:
        start = best[end][1]
        parts.append(order[start:end])
        end = start
    return parts[::-1]
