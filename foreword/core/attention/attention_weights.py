"""Where attention goes: the weights that the one attention function is about to use, kept for whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Weighed:
    """The weights of one attention call, mean over heads: ``[B, T, S]``; S counts the foreword's keys in front, too."""

    module: nn.Module
    weights: Tensor


_KEPT: ContextVar[list[Weighed] | None] = ContextVar("foreword_weighed", default=None)


@contextmanager
def weighing(kept: list[Weighed]) -> Iterator[None]:
    """Append the weights of every attention call of this thread to ``kept``."""
    token = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(token)


def weigh(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, causal: bool, options: dict[str, Any]
) -> None:
    """Keep the weights of one call, computed plainly, where this thread is :func:`weighing`.

    Args:
        query, key: ``[B, Hq, T, Dk]`` and ``[B, H, S, Dk]``, the foreword's keys in front.
        mask: boolean or additive, ``[B, 1, T, S]``; None: everything, or what ``causal`` leaves.
        options: the call's own: scaling, position_bias, softcap, s_aux (sinks).
    """
    kept = _KEPT.get()
    if kept is None:
        return
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scaling = options.get("scaling")
    scores = query.float() @ key.float().transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if options.get("position_bias") is not None:
        scores = scores + options["position_bias"].float()
    cap = options.get("softcap")
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    if mask is None and causal and query.shape[2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=key.device).tril(key.shape[2] - query.shape[2])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask.float()
    sinks = options.get("s_aux")
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]].mean(1)
    kept.append(Weighed(module, weights.nan_to_num().detach()))
