"""Soft slots: learned vectors that stand for tokens at any place inside a row.

A row's ids hold ``-1 - i`` where slot i of the row's own foreword belongs. The input embedding is the one place that
reads ids as words, so that is where they are taken out and the vectors put in; to everything behind it a slot is a
token like any other, with a position of its own, also for a recurrent layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from foreword.core.base.device import tensor_on
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message


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

        Nothing in here waits for an accelerator in a training step; there a vector that is missing is not a number, so
        that the step's loss is refused.

        Args:
            index: each row's place in the bank ``[B, 1]``, or each token's ``[B, T]``.

        Raises:
            SettingsError: a placeholder for a slot that the row's foreword does not have.
        """
        placed, slots = ids < 0, -1 - ids
        missing = placed & (slots >= self.counts[index])
        if (ids.device.type == "cpu" or not torch.is_grad_enabled()) and bool(missing.any()):
            raise SettingsError(
                "a row has a soft slot that its foreword does not fill",
                expected=Message("slots 0 to {value}, of a foreword that has them", value=int(self.counts.max()) - 1),
                received=f"slot {int(slots.max())}",
                hint="give the row the foreword that was trained with its template",
            )
        forewords, longest, _ = self.values.shape
        nothing = forewords * longest
        which = torch.where(placed, index * longest + slots, nothing)
        which = torch.where(missing, nothing + 1, which)
        vectors: Tensor = _Looked.apply(self.values.flatten(0, 1), which)  # type: ignore[no-untyped-call]
        return torch.where(placed[..., None], vectors.to(embeddings), embeddings)


class _Looked(torch.autograd.Function):
    """Rows of a table ``[N, E]`` by ``which [B, T]``; N stands for zeros and N + 1 for what is not a number.

    The backward pass is a product: the plain one adds up in another order each time on CUDA, where tokens share a row.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, which: Tensor) -> Tensor:
        ctx.save_for_backward(which)
        ctx.rows = len(table)
        filled = torch.cat([table, table.new_zeros(1, table.shape[1]), table.new_full((1, table.shape[1]), math.nan)])
        return nn.functional.embedding(which, filled)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        (which,) = ctx.saved_tensors
        taken = which.flatten() == torch.arange(ctx.rows, device=which.device)[:, None]
        return taken.to(given) @ given.flatten(0, 1), None


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
    return SlotBank(torch.stack(padded), tensor_on(counts, some[0].device))
