"""Attention in bfloat16 on CPU as batched matrix products, with a backward written out.

torch's CPU kernel has no fast backward in bfloat16: at 16 rows of 55 tokens it takes 22 ms a layer forward and
backward where the products below take 4 (one core with AVX512-BF16), more than half of a training step. Scores are
summed up and made probabilities in float32, so the result is as near to the exact one as the kernel's.

Letters: B rows, T queries, S keys, Hq query heads, H key heads, G = Hq / H, D and Dv head sizes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores at once: as many as stay in the processor's cache (float32, 2 MiB). Measured on 16 to 2 rows of 30 to 300.
_AT_ONCE = 1 << 19
# Probabilities of a layer that are kept for the backward pass; where there are more they are computed again.
_KEPT = 1 << 20
# Scores of one row above which torch's kernel, which never has them all, is faster.
_MOST = 1 << 21
# Below every score; finite, so that a query that sees nothing stays a number.
_UNSEEN = -1e30


@cache
def has_fast_products() -> bool:
    """Whether this processor multiplies in bfloat16."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_faster(query: Tensor, key: Tensor, mask: Tensor | None) -> bool:
    """Whether :func:`product_attention` is the fastest for these: query ``[B, Hq, T, D]``, key ``[B, H, S, D]``."""
    heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
    fits = queries > 1 and heads * queries * keys <= _MOST and (mask is None or mask.shape[1] == 1)
    return fits and query.device.type == "cpu" and query.dtype == torch.bfloat16 and has_fast_products()


def product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(query key' * scale + mask) value, ``[B, Hq, T, Dv]``.

    Args:
        query: ``[B, Hq, T, D]``.
        key, value: ``[B, H, S, D]`` and ``[B, H, S, Dv]``; H divides Hq.
        mask: ``[B or 1, 1, T, >= S]``, boolean (True: seen) or added to the scores; None: everything is seen.
        scale: None for ``D ** -0.5``.
    """
    if mask is not None:
        mask = mask[..., : key.shape[2]]
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape).masked_fill_(~mask, _UNSEEN)
        else:
            mask = mask.float().clamp_(min=_UNSEEN)
    out: Tensor = _Attention.apply(query, key, value, mask, query.shape[-1] ** -0.5 if scale is None else scale)  # type: ignore[no-untyped-call]
    return out


class _Attention(torch.autograd.Function):
    """Query heads of one key head stand below each other, so that they share its products; rows go in pieces."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        rows, heads, queries, size = query.shape
        groups, keys = key.shape[1], key.shape[2]
        q = query.reshape(rows * groups, heads // groups * queries, size)
        k, v = key.reshape(rows * groups, keys, size), value.reshape(rows * groups, keys, -1)
        kept: list[Tensor] = []
        keep = rows * heads * queries * keys <= _KEPT and any(ctx.needs_input_grad)
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        ctx.pieces = _pieces(rows, heads * queries * keys)
        for piece in ctx.pieces:
            part = slice(piece.start * groups, piece.stop * groups)
            p = _probabilities(q[part], k[part], mask, piece, scale)
            torch.bmm(p, v[part], out=out[part])
            kept += [p] if keep else []
        ctx.save_for_backward(q, k, v, mask, *kept)
        ctx.scale, ctx.shapes = scale, (query.shape, key.shape, value.shape)
        return out.view(rows, heads, queries, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *kept = ctx.saved_tensors
        groups = ctx.shapes[1][1]
        given = given.reshape(*q.shape[:2], -1)
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        for number, piece in enumerate(ctx.pieces):
            part = slice(piece.start * groups, piece.stop * groups)
            p = kept[number] if kept else _probabilities(q[part], k[part], mask, piece, ctx.scale)
            torch.bmm(p.transpose(1, 2), given[part], out=of_v[part])
            moved = torch.bmm(given[part], v[part].transpose(1, 2))
            moved = torch.ops.aten._softmax_backward_data(moved, p, -1, p.dtype).mul_(ctx.scale)
            torch.bmm(moved, k[part], out=of_q[part])
            torch.bmm(moved.transpose(1, 2), q[part], out=of_k[part])
        return (*(x.view(shape) for x, shape in zip((of_q, of_k, of_v), ctx.shapes, strict=True)), None, None)


def _pieces(rows: int, scores: int) -> list[slice]:
    """The rows in pieces of at most ``_AT_ONCE`` scores, ``scores`` being those of a row."""
    size = max(1, _AT_ONCE // scores)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _probabilities(q: Tensor, k: Tensor, mask: Tensor | None, piece: slice, scale: float) -> Tensor:
    """``[b * H, G * T, S]`` of the rows of a piece, in the queries' precision; q ``[b * H, G * T, D]``."""
    scores = torch.bmm(q, k.transpose(1, 2)).float()
    if mask is None:
        return scores.mul_(scale).softmax(-1).to(q.dtype)
    mask = mask if len(mask) == 1 else mask[piece]
    # [b, H, G, T, S]: the heads of a row share its mask.
    by_head = scores.view(piece.stop - piece.start, -1, mask.shape[2], mask.shape[3])
    by_head.mul_(scale).add_(mask)
    return scores.softmax(-1).to(q.dtype)
