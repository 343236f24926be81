"""Which layers give W x + b for every token of a row, whatever rows are beside it: asked of the model, on two rows.

A class says too little. Routers that subclass ``nn.Linear`` give tuples, experts that are linear layers see some tokens
of some rows, and a layer whose weight another module uses is never called.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from foreword.core.attention import attend, packing
from foreword.core.attention.checkpointing import uncheckpointed
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
    thread = threading.get_ident()

    def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if threading.get_ident() == thread:
            seen.setdefault(module, []).append((args[0] if args else None, output))

    with (
        ExitStack() as hooks,
        torch.no_grad(),
        attend.only(None),
        packing.packed(None),
        uncheckpointed(),
    ):
        for layer in layers.values():
            hooks.callback(layer.register_forward_hook(keep).remove)
        run(model, ids, ids[:, :_ANSWER])
    return seen


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
