"""Which layers give W x + b for every token of a row, whatever rows are beside it: asked of the model, on two rows.

A class says too little. Routers that subclass ``nn.Linear`` give tuples, experts that are linear layers see some tokens
of some rows, and a layer whose weight another module uses is never called.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.pass_context import aside, current, holding
from foreword.core.inject.sites import run

_LENGTH, _ANSWER = 5, 3
Seen = dict[nn.Module, list[tuple[Any, Any]]]


def linear_over_rows(model: PreTrainedModel, candidates: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The names of those ``candidates`` beside which each row can have a change of its own."""
    ids = torch.arange(1, 1 + 2 * _LENGTH, device=model.device).view(2, _LENGTH)
    ids = ids % model.config.get_text_config().vocab_size
    together = _calls(model, candidates, ids)
    alone = [_calls(model, candidates, row[None]) for row in ids]
    return tuple(
        name
        for name, layer in candidates.items()
        if _affine(layer, together.get(layer, [])) and _by_rows(layer, together, alone)
    )


def _calls(model: PreTrainedModel, layers: Mapping[str, nn.Module], ids: Tensor) -> Seen:
    """What each layer was given and what it gave in one pass of this thread."""
    seen: Seen = {}
    hold = HookSet()
    for layer in layers.values():
        hold.wrap(layer, Level.PROBE, partial(_observed, layer))
    with torch.no_grad(), aside(fused=False), holding(hold, observed=seen):
        run(model, ids, ids[:, :_ANSWER])
    return seen


def _observed(layer: nn.Module, forward: Forward) -> Forward:
    """Keep what ``layer`` is given and gives, where the calling thread looks."""

    def keep(*args: Any, **kwargs: Any) -> Any:
        output, seen = forward(*args, **kwargs), current().observed
        if seen is not None:
            seen.setdefault(layer, []).append((args[0] if args else None, output))
        return output

    return keep


def _affine(layer: nn.Module, calls: list[tuple[Any, Any]]) -> bool:
    """Whether every call gave W x + b, and there was one."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    matrix = weight.T if isinstance(layer, Conv1D) else weight
    for x, output in calls:
        if not isinstance(x, Tensor) or not isinstance(output, Tensor) or matrix.ndim != 2:
            return False
        if x.shape[-1] != matrix.shape[1] or output.shape != (*x.shape[:-1], matrix.shape[0]):
            return False
        expected = nn.functional.linear(x, matrix.to(x), None if bias is None else bias.to(x))  # type: ignore[arg-type]
        if not _close(output, expected):
            return False
    return bool(calls)


def _by_rows(layer: nn.Module, together: Seen, alone: list[Seen]) -> bool:
    """Whether what the layer was given for two rows is what it is given for each of them, one behind the other."""
    both, rows = together[layer], [seen.get(layer, []) for seen in alone]
    if any(len(calls) != len(both) for calls in rows):
        return False
    for number, (x, _) in enumerate(both):
        parts = [calls[number][0] for calls in rows]
        if x.shape[0] % 2 or any(part.shape != (x.shape[0] // 2, *x.shape[1:]) for part in parts):
            return False
        if not _close(torch.cat(parts), x):
            return False
    return True


def _close(got: Tensor, expected: Tensor) -> bool:
    tolerance = min(1000 * torch.finfo(expected.dtype).eps, 0.1)
    difference = (got.float() - expected.float()).abs().amax(-1).flatten()
    # The median: in short number formats rounding alone sends a token to another expert, and its states with it.
    off = difference.max() if expected.dtype.itemsize >= 4 else difference.median()
    return bool(off <= tolerance * expected.float().abs().max().clamp(min=1e-6))
