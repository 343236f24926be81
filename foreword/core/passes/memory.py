"""How much memory there is and what work takes of it; when it runs out, how errors say it, and the same in pieces."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

# What allocators say that raise a plain RuntimeError: torch's on the CPU, drivers', and libraries' on a full device
# (CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED).
_SAYINGS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "failed to allocate",
    "bad allocation",
    "status_alloc_failed",
)


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


def available(device: torch.device) -> int:
    """Bytes that are free: on an accelerator of its memory, else of the machine's, within the process's own limit.

    0 where nothing says so.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _line("/proc/meminfo", "MemAvailable:") * 1024
    group = Path("/sys/fs/cgroup")
    try:
        most, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(most) - int(used)) if most.isdecimal() else free
    except (OSError, ValueError):
        return free


def peak(device: torch.device, act: Callable[[], object]) -> int:
    """The most memory in use while ``act`` ran, in bytes: of an accelerator's allocator, else of this process.

    Where the process cannot begin its peak anew (outside Linux), the peak of its whole life.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        act()
        return torch.cuda.max_memory_allocated(device)
    try:
        # proc(5): 5 resets the peak resident set size.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        act()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    act()
    return _line("/proc/self/status", "VmHWM:") * 1024


def in_use(device: torch.device) -> int:
    """Bytes in use now, as :func:`peak` counts them."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _line(path: str, name: str) -> int:
    """The number on the line of a file of the kernel that begins with ``name``; 0 where there is none."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
