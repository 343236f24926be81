"""Gradient checkpointing for a base that stays in eval mode.

transformers checkpoints a layer only while the layer trains, and a layer that trains drops out. A frozen base must not,
so the layers that transformers marks for it are wrapped here, on the instance, and unwrapped afterwards. A layer runs
again during backward, perhaps after its ``with injected(...)`` block was left and, on an accelerator, in a thread of
the autograd
engine: it takes what was in force at its first run along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from foreword.core.attention import attend, fused_layers, last_layer_pruning, packing
from foreword.core.attention.forward_wrappers import put_around

_OFF: ContextVar[bool] = ContextVar("foreword_uncheckpointed", default=False)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if _OFF.get() or last_layer_pruning.stopping() or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        chosen, how, merged = attend.sources(), packing.current(), fused_layers.in_force()

        def under(*inner: Any, **named: Any) -> Any:
            with attend.only(chosen), packing.packed(how), fused_layers.only(merged):
                return forward(*inner, **named)

        return checkpoint(under, *args, use_reentrant=False, **kwargs)

    return run


def wrap(model: PreTrainedModel) -> list[Callable[[], None]]:
    """Let every layer's activations be computed again during backward; returns what :func:`unwrap` takes."""
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    return [put_around(layer, "checkpointing", _recomputed) for layer in layers]


def unwrap(wrapped: list[Callable[[], None]]) -> None:
    """Undo :func:`wrap`, as far as nobody else wants it."""
    for undo in wrapped:
        undo()


@contextmanager
def checkpointing(model: PreTrainedModel, on: bool = True) -> Iterator[None]:
    """Gradient checkpointing inside the block; activations of one layer at a time instead of all of them."""
    wrapped = wrap(model) if on else []
    try:
        yield
    finally:
        unwrap(wrapped)


@contextmanager
def uncheckpointed() -> Iterator[None]:
    """Keep activations inside the block: a soft prompt's few tokens run under other injections than their backward
    would."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)
