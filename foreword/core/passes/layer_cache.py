"""Layers below everything that trains: what they give for a row is computed once and taken up from there.

A prefix that trains in the layers from l on leaves the layers before it as they are, whether the text's own keys and
values stand in front there or nothing does. So the states that enter layer l depend on the row alone. They are kept by
the row's ids, positions, mask, and what stands in front of it below l, and the next pass over the same rows begins at
layer l.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.pass_context import current, holding, source_for, within
from foreword.core.inject.in_force import InForce
from foreword.core.inject.sites import SiteMap, find_sites
from foreword.core.inject.stack_hooks import by_name, stacks
from foreword.core.inject.value import Foreword
from foreword.core.passes.tensor_cache import TensorCache


class Enough(Exception):
    """The pass was only there to fill the store, and that is done."""


@dataclass(frozen=True)
class _Pass:
    """One pass: the key of each row, where its tokens lie, and the states of all rows where every one is kept."""

    keys: list[str]
    places: list[tuple[int, Tensor]]
    found: list[Tensor] | None


class LayerCache:
    """The layers of ``model`` before ``layer``, and what they gave.

    Args:
        layer: the first layer that is computed in every pass.
        store: where the states are kept, one tensor ``[T, E]`` a row.
        name: what tells the model from others that use the same store.

    Use :func:`why_not` first: the model's layers have to be a plain stack.

    Attributes:
        filling: passes are made for their states alone and end at ``layer`` with :class:`Enough`.
        refused: the store had no room for some states.
    """

    def __init__(self, model: PreTrainedModel, layer: int, store: TensorCache, name: str = "") -> None:
        self.model, self.layer, self.store, self.name = model, layer, store, name
        self.sites = find_sites(model)
        self.filling = self.refused = False
        self.stack = stacks(model)[0]

    def size(self, tokens: int) -> int:
        """Bytes that the states of ``tokens`` tokens take."""
        width: int = self.model.config.get_text_config().hidden_size
        return tokens * width * self.model.dtype.itemsize

    def begin(self, arguments: dict[str, Any]) -> _Pass | None:
        """What is known of the pass that the stack is called for; None for one that cannot take part."""
        ids, source = arguments.get("input_ids"), source_for(self.stack)
        if ids is None or arguments.get("past_key_values") is not None or arguments.get("use_cache"):
            return None
        if not isinstance(source, InForce) or bool((ids < 0).any()):
            return None
        fronts = [digest_below(value, self.layer, self.sites) for value in source.values]
        if any(front is None for front in fronts):
            return None
        how = current().packed
        owners = source.index(ids.shape[0] if how is None else how.rows).tolist()
        places = list(_places(arguments))
        below = [f"{self.name}/{self.layer}/{front}" for front in fronts]
        keys = [_key(arguments, row, place, below[owners[row]]) for row, place in enumerate(places)]
        if self.filling and all(key in self.store for key in keys):
            raise Enough
        found = [] if self.filling else [self.store.get(key) for key in keys]
        kept = [state for state in found if state is not None]
        batch = [0] * len(places) if how is not None else list(range(len(places)))
        return _Pass(keys, list(zip(batch, places, strict=True)), kept if len(kept) == len(keys) else None)

    def take(self, now: _Pass, hidden: Tensor) -> Tensor:
        """The states ``[B, T, E]`` that enter the first layer that is computed: those that are kept, or ``hidden``, to
        be kept."""
        if now.found is None:
            # Not in a step of training: its batches are not the same again, and their states would differ in the last
            # bits from those that a resumed run computes.
            for key, (row, place) in zip(now.keys, now.places, strict=True) if not torch.is_grad_enabled() else ():
                self.refused |= not self.store.put(key, hidden[row, place].detach().clone())
            if self.filling:
                raise Enough
            return hidden
        states = torch.zeros_like(hidden)
        for state, (row, place) in zip(now.found, now.places, strict=True):
            states[row, place] = state.to(states)
        return states


def _places(arguments: dict[str, Any]) -> Iterator[Tensor]:
    """Where the tokens of each row stand in ``[B, T]``, or in ``[1, N]`` where the rows lie end to end."""
    ids, mask, how = arguments["input_ids"], arguments.get("attention_mask"), current().packed
    for row in range(ids.shape[0] if how is None else how.rows):
        if how is not None:
            yield (how.owner == row).nonzero()[:, 0]
        elif mask is not None and mask.ndim == 2:
            yield mask[row].nonzero()[:, 0]
        else:
            yield torch.arange(ids.shape[1], device=ids.device)


def _key(arguments: dict[str, Any], row: int, place: Tensor, front: str) -> str:
    """What the states of a row below the layer depend on."""
    how, mask, positions = current().packed, arguments.get("attention_mask"), arguments.get("position_ids")
    batch = row if how is None else 0
    told = hashlib.blake2b(front.encode(), digest_size=20)
    parts = [arguments["input_ids"][batch, place]]
    if positions is not None:
        parts.append(positions.expand(arguments["input_ids"].shape)[batch, place])
    kinds = arguments.get("token_type_ids")
    if kinds is not None:
        parts.append(kinds[batch, place])
    if mask is not None and mask.ndim == 4:
        seen = mask[row if mask.shape[0] > 1 else 0, 0]
        parts.append(seen[: len(place), : len(place)] if how is not None else seen)
    for part in parts:
        told.update(str(tuple(part.shape)).encode())
        told.update(part.cpu().contiguous().numpy().tobytes())
    return told.hexdigest()


def digest_below(value: Foreword, layer: int, sites: SiteMap) -> str | None:
    """A short name for all that ``value`` does below ``layer``; None where that trains."""
    if value.prompt is not None or value.slots is not None or value.adapters or value.weights:
        return None
    told = hashlib.blake2b(str(value.num_virtual_tokens).encode(), digest_size=20)
    for name, kv in sorted(value.sites.items()):
        if sites.sites[name].layer >= layer:
            continue
        for tensor in (kv.keys, kv.values):
            if tensor.requires_grad:
                return None
            told.update(f"{name} {tuple(tensor.shape)}".encode())
            told.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return told.hexdigest()


def first_trained(model: PreTrainedModel, value: Foreword) -> int:
    """The first layer in which something of ``value``, as its writer wrote it, trains; 0 where that is not a matter of
    layers."""
    if value.prompt is not None or value.slots is not None or value.adapters or value.weights:
        return 0
    sites = find_sites(model).sites
    trained = [sites[n].layer for n, kv in value.sites.items() if kv.keys.requires_grad or kv.values.requires_grad]
    return min(trained, default=0)


def why_not(model: PreTrainedModel) -> str | None:
    """Why passes of ``model`` cannot begin at a later layer; None where they can."""
    sites = find_sites(model)
    if sites.kind == "encoder-decoder":
        return "its decoder reads what its encoder gives in every layer"
    if sites.recurrent or sites.stateful:
        return "some of its layers keep a state"
    for number, layer in enumerate(layers_of(model)):
        names = {name for module in layer.modules() for name in sites.modules.get(module, ())}
        if names != {name for name, site in sites.sites.items() if site.layer == number}:
            return "its layers are not a plain stack"
    if len(layers_of(model)) != len(sites.sites):
        return "its layers are not a plain stack"
    return None


def layers_of(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """The layers of the model's one stack, in order."""
    return [m for m in stacks(model)[0].modules() if isinstance(m, GradientCheckpointingLayer)]


@contextmanager
def reusing(frozen: LayerCache | None) -> Iterator[None]:
    """Let the passes of this thread begin where ``frozen`` ends, as far as their rows are kept; None changes
    nothing."""
    if frozen is None:
        yield
        return
    hold = HookSet()
    hold.wrap(frozen.stack, Level.LAYER_CACHE, partial(_around_stack, frozen.stack))
    for number, layer in enumerate(layers_of(frozen.model)):
        # Outside of checkpointing: a layer that is passed over has nothing to compute again.
        hold.wrap(layer, Level.LAYER_CACHE, partial(_around_layer, number))
    with holding(hold, layer_cache=frozen):
        yield


def _around_stack(stack: nn.Module, forward: Forward) -> Forward:
    """Look up what is kept of a pass as it begins."""

    def run(*args: Any, **kwargs: Any) -> Any:
        frozen = current().layer_cache
        if not isinstance(frozen, LayerCache) or frozen.stack is not stack:
            return forward(*args, **kwargs)
        now = frozen.begin(by_name(stack, args, kwargs))
        with within(cached_pass=None if now is None else (frozen, now)):
            return forward(*args, **kwargs)

    return run


def _around_layer(number: int, forward: Forward) -> Forward:
    """Pass the layer over, or let it be the first that is computed."""

    def run(*args: Any, **kwargs: Any) -> Any:
        cached: Any = current().cached_pass
        if cached is None:
            return forward(*args, **kwargs)
        frozen, now = cached
        hidden = args[0] if args else kwargs["hidden_states"]
        if now.found is not None and number < frozen.layer:
            return hidden
        if number != frozen.layer:
            return forward(*args, **kwargs)
        states = frozen.take(now, hidden)
        return forward(states, *args[1:], **kwargs) if args else forward(**{**kwargs, "hidden_states": states})

    return run
