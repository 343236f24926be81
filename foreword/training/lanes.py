"""Rows of a step in two lanes, a thread each with half of the threads that an operation may use.

Threads inside an operation meet at its end, and what lies between the matrix products of a step are thousands of small
operations: with two threads a step reaches less of the machine's rate than one thread does of its own half. Rows do not
need each other, so the threads take rows instead and meet once a step. Measured: docs/log.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from foreword.core.roofline import operations
from foreword.training.parts import Row

T = TypeVar("T")
R = TypeVar("R", bound=Row)

_LANES = 2
# Operations of a lane below which the interpreter, which the lanes share, is what a step waits for.
_WORTH = 4e9


def lanes(model: PreTrainedModel, rows: Sequence[R], values: int) -> list[list[R]]:
    """The rows of each lane, of like length and with about as many tokens each; one lane where two do not pay.

    Depends on the model, the rows and torch's number of threads alone.

    Args:
        values: numbers that are trained: each lane has gradients of its own.
    """
    tokens = sum(_length(row) for row in rows)
    needed = operations(model, tokens)
    alone = model.device.type != "cpu" or torch.get_num_threads() < _LANES or len(rows) < _LANES
    if alone or needed < _LANES * _WORTH or 8 * values > sum(p.numel() for p in model.parameters()):
        return [list(rows)]
    order = sorted(rows, key=_length)
    seen, cut = 0, 0
    while seen < tokens / 2:
        seen += _length(order[cut])
        cut += 1
    cut = min(max(1, cut), len(order) - 1)
    return [order[:cut], order[cut:]]


def _length(row: Row) -> int:
    return len(row.input_ids) + len(row.target_ids)


def side_by_side(acts: Sequence[Callable[[], T]]) -> list[T]:
    """What each act returns, every one carried out in a lane of its own under this thread's context.

    Raises:
        whatever the first of them raised; the others have ended then.
    """
    threads = torch.get_num_threads()
    own = max(1, threads // len(acts))

    def carry_out(act: Callable[[], T]) -> T:
        # A setting of the thread as well as of the process.
        torch.set_num_threads(own)
        return act()

    try:
        futures = [_pool(len(acts)).submit(copy_context().run, carry_out, act) for act in acts]
        wait(futures)
    finally:
        torch.set_num_threads(threads)
    return [future.result() for future in futures]


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """The threads stay: each new one would have the matrix library set up its buffers anew."""
    return ThreadPoolExecutor(count, "foreword-lane")
