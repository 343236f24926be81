"""Soft slots: learned vectors that stand for tokens at any place inside a row.

A row's ids hold ``-1 - i`` where slot i of the row's own foreword belongs. The input embedding is the one place that
reads ids as words, so that is where they are taken out and the vectors put in; to everything behind it a slot is a
token like any other, with a position of its own, also for a recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foreword.core.attention import packing
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError


def placeholder(slot: int) -> int:
    """The id that stands in a row where slot ``slot`` belongs."""
    return -1 - slot


@dataclass(frozen=True)
class SlotBank:
    """The slots of several forewords: values ``[F, S, E]``, filled up with zeros, and how many each has ``[F]``."""

    values: Tensor
    counts: Tensor

    def fill(self, embeddings: Tensor, ids: Tensor, index: Tensor) -> Tensor:
        """``embeddings`` ``[B, T, E]`` with each placeholder of ``ids`` ``[B, T]`` replaced by its vector.

        Args:
            index: each row's place in the bank ``[B, 1]``, or each token's ``[B, T]``.

        Raises:
            SettingsError: a placeholder for a slot that the row's foreword does not have.
        """
        rows, places = (ids < 0).nonzero(as_tuple=True)
        slots, owners = -1 - ids[rows, places], index.expand(ids.shape)[rows, places]
        if bool((slots >= self.counts[owners]).any()):
            raise SettingsError(
                "a row has a soft slot that its foreword does not fill",
                expected=f"slots 0 to {int(self.counts.max()) - 1}, of a foreword that has them",
                received=f"slot {int(slots.max())}",
                hint="give the row the foreword that was trained with its template",
            )
        return embeddings.index_put((rows, places), self.values[owners, slots].to(embeddings))


def bank_of(forewords: Sequence[Foreword], size: int) -> SlotBank | None:
    """The forewords' slots side by side; None where there are none.

    Raises:
        SettingsError: slots of another embedding size than ``size``.
    """
    found = [f.slots for f in forewords]
    some = [s for s in found if s is not None]
    if not some:
        return None
    for slots in some:
        if slots.shape[1] != size:
            raise SettingsError("the soft slots have another embedding size", expected=size, received=slots.shape[1])
    counts = [0 if s is None else s.shape[0] for s in found]
    longest = max(counts)
    padded = [
        some[0].new_zeros(longest, size) if s is None else nn.functional.pad(s, (0, 0, 0, longest - s.shape[0]))
        for s in found
    ]
    return SlotBank(torch.stack(padded), torch.tensor(counts, device=some[0].device))


class Filler(Protocol):
    """What is in force in a thread: it knows each row's slots."""

    @property
    def slots(self) -> SlotBank | None: ...

    def index(self, rows: int) -> Tensor: ...


# The ids of the pass through an embedding that has begun; one thread is inside at most one embedding.
_IDS: ContextVar[Tensor | None] = ContextVar("foreword_slot_ids", default=None)


def install(embeddings: Iterable[nn.Module], active: Callable[[], Filler | None]) -> list[RemovableHandle]:
    """Let the input embeddings fill slots with what ``active`` says is in force in the calling thread."""

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        filler = active()
        if filler is None or filler.slots is None or not args or not bool((args[0] < 0).any()):
            _IDS.set(None)
            return None
        _IDS.set(args[0])
        return (args[0].clamp(min=0), *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        ids, filler = _IDS.get(), active()
        if ids is None or filler is None or filler.slots is None:
            return None
        _IDS.set(None)
        packed = packing.current()
        if packed is None:
            return filler.slots.fill(output, ids, filler.index(ids.shape[0])[:, None])
        return filler.slots.fill(output, ids, filler.index(packed.rows)[packed.owner][None])

    handles: list[RemovableHandle] = []
    for module in embeddings:
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))
    return handles
