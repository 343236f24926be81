"""When memory runs out: how errors say it, and the same work in smaller pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

# What allocators say that raise a plain RuntimeError: torch's on the CPU, and drivers'.
_SAYINGS = ("can't allocate memory", "not enough memory", "out of memory", "failed to allocate", "bad allocation")


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)


T = TypeVar("T")
R = TypeVar("R")


def in_halves(act: Callable[[Sequence[T]], list[R]], rows: Sequence[T], device: torch.device) -> list[R]:
    """``act(rows)``, in two halves (and so on) where memory runs out; a single row's error is the caller's."""
    try:
        return act(rows)
    except (RuntimeError, MemoryError) as problem:
        if len(rows) == 1 or not out_of_memory(problem):
            raise
    # Only here are the activations that filled the memory let go of: the error's traceback held them.
    release(device)
    half = len(rows) // 2
    return in_halves(act, rows[:half], device) + in_halves(act, rows[half:], device)


def release(device: torch.device) -> None:
    """Give back what an accelerator's allocator keeps for later, so that smaller pieces find room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
