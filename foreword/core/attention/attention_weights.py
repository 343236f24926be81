"""Where attention goes: the weights that the one attention function is about to use, kept for whoever looks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foreword.core.attention.pass_context import current
from foreword.core.attention.sources import Weighed


def weigh(
    module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, front: int | None, options: dict[str, Any]
) -> None:
    """Keep the weights of one call, computed plainly, where this thread wants them.

    Args:
        query, key: ``[B, Hq, T, Dk]`` and ``[B, H, S, Dk]``, the foreword's keys in front.
        mask: boolean or additive, ``[B, 1, T, S]``; None: everything, or what ``front`` leaves.
        front: keys that every query of a causal row sees before its own; None for a row that is not causal.
        options: the call's own: scaling, position_bias, softcap, s_aux (sinks).
    """
    kept = current().weights
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
    if mask is None and front is not None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=key.device).tril(front)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask.float()
    sinks = options.get("s_aux")
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]].mean(1)
    kept.append(Weighed(module, weights.nan_to_num().detach()))
