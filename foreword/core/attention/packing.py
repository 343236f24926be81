"""Rows end to end as one sequence ``[1, N]``, so that no token-wise layer computes padding.

Only inside the attention function (core/attention/attend.py) are the rows put side by side ``[B, T]``: there each
sees its own foreword and itself. Positions count from 0 in every row, and masks are the model's own for one row of T
tokens, so windows and chunks hold row by row. Whether a model may be packed is asked of the model: a few rows are run
both ways and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foreword.core.base.device import sent


class Packed:
    """How the rows of one pass lie in ``[1, N]``.

    Args:
        lengths: tokens of each of the B rows, none 0.
        device: where the pass runs.

    Attributes:
        owner: the row of each token ``[N]``.
        start: where each row begins ``[B]``.
        positions: each token's place in its own row ``[1, N]``.
        wanted: the tokens that somebody reads behind the last layer, as (row, place); None for all.
        cut: how these tokens alone pass a layer in which they see the keys and values of all.
        pruned: how the wanted tokens lie behind the last layer, once it has run for them alone
            (:mod:`foreword.core.attention.last_layer_pruning`).
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.wanted: Sequence[tuple[int, int]] | None = None
        self.cut: Cut | None = None
        self.pruned: Packed | None = None
        self.rows, self.width, self.tokens = len(lengths), max(lengths), sum(lengths)
        count = torch.tensor(list(lengths))
        begin = count.cumsum(0) - count
        owner = torch.repeat_interleave(torch.arange(self.rows), count)
        place = torch.arange(self.tokens) - begin[owner]
        # Where a token stands side by side, and which token stands at each such place. Padding repeats the row's own
        # last token: what is not a number in one row may be nowhere in another, not even behind a mask.
        self._to = sent(owner * self.width + place, device)
        self._from = sent((begin[:, None] + torch.arange(self.width).minimum(count[:, None] - 1)).flatten(), device)
        self.owner, self.start, self.positions = (sent(x, device) for x in (owner, begin, place[None]))

    def side_by_side(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What reached the attention function, row by row."""
        if self.cut is None:
            return self.apart(query), self.apart(key), self.apart(value), mask
        whole = self.cut.whole
        return self.apart(query), whole.apart(self.cut.key), whole.apart(self.cut.value), self.cut.seen(mask)

    def apart(self, states: Tensor) -> Tensor:
        """Heads of all tokens ``[1, H, N, D]`` row by row ``[B, H, T, D]``; what stands at padding counts nowhere."""
        _, heads, _, size = states.shape
        flat = states.transpose(1, 2).reshape(self.tokens, heads * size)
        out = _moved(flat, self._from, self._to)
        return out.view(self.rows, self.width, heads, size).transpose(1, 2)

    def joined(self, states: Tensor) -> Tensor:
        """Outputs row by row ``[B, T, H, D]`` end to end ``[1, N, H, D]``."""
        heads, size = states.shape[2:]
        out = _moved(states.reshape(self.rows * self.width, heads * size), self._to, self._from)
        return out.view(1, self.tokens, heads, size)

    def row_by_row(self, states: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        """``act``, which takes ``[B, T, E]`` and gives ``[B, T, F]``, on N tokens, whatever dimensions lead them."""
        flat = _moved(states.reshape(self.tokens, -1), self._from, self._to).view(self.rows, self.width, -1)
        return _moved(act(flat).flatten(0, 1), self._to, self._from).view(*states.shape[:-1], -1)

    def at(self, rows: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Where the tokens at ``positions`` of ``rows`` lie in ``[1, N]``."""
        return torch.zeros_like(rows), self.start[rows] + positions

    def beside(self, values: Tensor) -> Tensor:
        """One value a token ``[N]`` side by side ``[B, T]``; padding repeats the row's last."""
        return values[self._from].view(self.rows, self.width)

    def end_to_end(self, values: Tensor) -> Tensor:
        """One value a token side by side ``[B, T]`` as ``[1, N]``."""
        return values.flatten()[self._to][None]


@dataclass(frozen=True)
class Cut:
    """Some tokens of packed rows, in a layer in which they see the keys and values of all.

    Args:
        whole: how all tokens lie.
        places: the tokens' places in their rows, side by side ``[B, T]``.
        key: the layer's keys of all tokens ``[1, H, N, Dk]``.
        value: its values ``[1, H, N, Dv]``.
    """

    whole: Packed
    places: Tensor
    key: Tensor
    value: Tensor

    def seen(self, mask: Tensor | None) -> Tensor:
        """The rows of the layer's mask that belong to these tokens."""
        rows, width = len(self.places), self.whole.width
        if mask is None:
            return torch.arange(width, device=self.places.device) <= self.places[:, None, :, None]
        mask = mask.expand(rows, -1, -1, -1)
        return mask.gather(2, self.places[:, None, :, None].expand(-1, mask.shape[1], -1, width))


class _Moved(torch.autograd.Function):
    """Rows of a matrix in another order. Both ways are gathers: index_add, the plain backward, is not
    deterministic on GPU. ``[N, F]`` to ``[M, F]`` by ``take [M]``; ``back [N]`` says where each one went.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, take: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(take, back)
        return states.index_select(0, take)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        take, back = ctx.saved_tensors
        (gradient,) = gradients
        if len(back) <= len(take):
            return gradient.index_select(0, back), None, None
        # Padding was dropped on the way there: nothing comes back to it.
        return gradient.new_zeros(len(back), gradient.shape[1]).index_copy(0, take, gradient), None, None


def _moved(states: Tensor, take: Tensor, back: Tensor) -> Tensor:
    out: Tensor = _Moved.apply(states, take, back)  # type: ignore[no-untyped-call]
    return out
