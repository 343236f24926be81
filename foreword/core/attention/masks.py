"""Masks with columns for the foreword, made once a pass and not once a layer."""

from __future__ import annotations

import torch
from torch import Tensor

from foreword.core.attention.pass_context import current
from foreword.core.attention.sources import Front


def causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """``[1, 1, T, S]``, aligned to the left: query t sees keys 0..t.

    That is what no mask means to torch's and transformers' functions: a cache of a fixed size has room behind the
    queries, and where there is a past before them a mask is given.
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()[None, None]


def widened(
    mask: Tensor | None,
    front: Front,
    query: Tensor,
    key: Tensor,
    window: int | None,
    causes: bool,
    additive: bool = False,
) -> Tensor:
    """The row's mask ``[B, 1, T, S]`` with columns for the foreword in front, boolean or additive as it came.

    Args:
        mask: the row's; None: everything, or what a causal row sees.
        query, key: ``[B, Hq, T, Dk]`` and ``[B, H, S, Dk]``.
        window: tokens that a query sees, itself included; None for all before it.
        causes: whether None stands for a causal mask.
        additive: make a boolean mask one that is added to the scores. That is what kernels make of it in every layer,
            and keep for the backward pass in every layer.
    """
    memo = current().memo
    queries, keys = query.shape[2], key.shape[2]
    shapes = (front.keys.shape[2], query.shape[0], queries, keys, window)
    # Without a mask a causal and a cross-attention of one shape are told apart by what None stands for.
    given = (id(mask), id(front.live), id(front.lengths), *shapes, causes, additive, query.dtype)
    if memo is not None and given in memo.masks:
        return memo.masks[given][1]
    own = mask
    if own is None:
        shape = (1, 1, queries, keys)
        own = causal(queries, keys, key.device) if causes else torch.ones(shape, dtype=torch.bool, device=key.device)
    out = torch.cat(_with_front(own, front, query.shape[0], window), -1)
    if additive and out.dtype == torch.bool:
        out = torch.zeros_like(out, dtype=query.dtype).masked_fill_(~out, float("-inf"))
    if memo is not None:
        memo.masks[given] = ((mask, front.live, front.lengths), out)
    return out


def _with_front(mask: Tensor, front: Front, rows: int, window: int | None) -> tuple[Tensor, Tensor]:
    """The columns of the foreword and the row's own mask, of one shape.

    Under a sliding window the foreword leaves the window like any token in a cache would: virtual token p of P stands
    P - p before the content, and a query that sees n content keys stands n - 1 after its start. That
    count holds for every padding side and every kind of cache.
    """
    queries, length = mask.shape[2], front.keys.shape[2]
    # One mask for all rows where they are alike.
    rows = mask.shape[0] if front.live is None and window is None else rows
    seen = torch.ones(1, 1, 1, length, dtype=torch.bool, device=mask.device)
    if front.live is not None:
        seen = front.live[:, None, None, :]
    if window is not None:
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        before = front.lengths[:, None] - torch.arange(length, device=mask.device)
        seen = seen & (allowed.sum(-1, keepdim=True) + before[:, None, None, :] <= window)
    seen = seen.expand(rows, mask.shape[1], queries, length)
    if mask.dtype != torch.bool:
        seen = torch.zeros_like(seen, dtype=mask.dtype).masked_fill(~seen, torch.finfo(mask.dtype).min)
    return seen, mask.expand(rows, -1, queries, -1)
