"""Gradient checkpointing for a base that stays in eval mode.

transformers checkpoints a layer only while the layer trains, and a layer that trains drops out. A frozen base must not,
so the layers that transformers marks for it are wrapped here and unwrapped afterwards. A layer runs again during
backward, perhaps after its ``with injected(...)`` block was left and, on an accelerator, in a thread of the autograd
engine: it takes what was in force at its first run along, and the hooks that this relies on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.pass_context import again, current, entered

_CACHES = ("past_key_values", "past_key_value", "layer_past")


def _recomputed(forward: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        here = current()
        if not here.checkpointing or here.keys_only or not torch.is_grad_enabled() or _has_past(kwargs):
            return forward(*args, **kwargs)
        snapshot, first = here.snapshot(), True

        def under(*inner: Any, **named: Any) -> Any:
            nonlocal first
            with entered(snapshot) if first else again(snapshot):
                first = False
                return forward(*inner, **named)

        # A layer that runs again would find its own keys in the cache.
        dropped = {name: None for name in _CACHES if name in kwargs}
        kept_off = {"use_cache": False} if "use_cache" in kwargs else {}
        return checkpoint(under, *args, use_reentrant=False, **{**kwargs, **dropped, **kept_off})

    return run


def _has_past(kwargs: dict[str, Any]) -> bool:
    """Whether the layer is to see tokens of an earlier pass, which it would not find without its cache."""
    caches = [kwargs[name] for name in _CACHES if kwargs.get(name) is not None]
    return any(not hasattr(cache, "get_seq_length") or cache.get_seq_length() > 0 for cache in caches)


def checkpoint_layers(hold: HookSet, model: PreTrainedModel) -> None:
    """Have every layer's activations computed again during backward while ``hold`` is entered."""
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            hold.wrap(layer, Level.CHECKPOINTING, _recomputed)


@contextmanager
def checkpointing(model: PreTrainedModel, on: bool = True) -> Iterator[None]:
    """Gradient checkpointing inside the block; activations of one layer at a time instead of all of them.

    The backward pass may come behind the block.
    """
    hold = HookSet()
    if on:
        checkpoint_layers(hold, model)
    with hold:
        yield
