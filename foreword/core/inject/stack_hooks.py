"""The hooks on a model's stacks and embeddings: where a pass begins, where tokens come in, what comes out behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import PassMemo, current, source_for, within
from foreword.core.attention.routing import route
from foreword.core.inject.encoder_outputs import taken_back
from foreword.core.inject.in_force import InForce
from foreword.core.inject.sites import backbone, counting_stack, find_sites

Act = Callable[[InForce, dict[str, Any]], None]


def stacks(model: PreTrainedModel) -> list[PreTrainedModel]:
    """What takes tokens and runs the layers: the decoder's or encoder's innermost stack, or encoder and decoder."""
    return fact(model, "stacks", lambda: _stacks(model))


def _stacks(model: PreTrainedModel) -> list[PreTrainedModel]:
    sites, inner = find_sites(model), backbone(model)
    if sites.kind == "encoder-decoder":
        return [inner.get_encoder(), inner.get_decoder()]
    return [inner if sites.kind == "encoder" else counting_stack(model, sites.modules) or inner]


def embeddings(model: PreTrainedModel) -> list[nn.Module]:
    """The model's input embedding, and the stack's where it has one of its own over the shared weights (T5, BART)."""
    return [*dict.fromkeys([model.get_input_embeddings(), stacks(model)[0].get_input_embeddings()])]


def owned(model: PreTrainedModel) -> set[nn.Module]:
    """The modules for which what is in force on the model decides; those whose weights change join them."""
    return fact(model, "owned", lambda: {*find_sites(model).modules, *stacks(model), *embeddings(model)})


def hook_model(hold: HookSet, model: PreTrainedModel) -> None:
    """Have the model ask for what is in force, while ``hold`` is entered."""
    route(hold, model)
    for stack in stacks(model):
        hold.wrap(stack, Level.INJECTION, around_stack(model, stack))
    for embedding in embeddings(model):
        hold.wrap(embedding, Level.SLOTS, partial(_filling, embedding))


def around_stack(model: PreTrainedModel, stack: PreTrainedModel) -> Callable[[Forward], Forward]:
    """What stands around ``stack``, one of the model's :func:`stacks`."""
    kind, first = find_sites(model).kind, stack is stacks(model)[0]
    acts: list[Act] = [InForce.before_stack] if first else [InForce.before_decoder]
    if first and kind != "decoder":
        embed = model.get_input_embeddings()
        acts.append(lambda source, arguments: source.before_encoder(arguments, embed))
    return partial(_around, stack, acts, kind == "encoder")


def _around(stack: nn.Module, acts: list[Act], takes_out: bool, forward: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        source = source_for(stack)
        if not isinstance(source, InForce):
            return forward(*args, **kwargs)
        arguments = by_name(stack, args, kwargs)
        here = current()
        holds = here.holds if source.hold in here.holds else (*here.holds, source.hold)
        with within(attached=source, holds=holds, memo=PassMemo()):
            for act in acts:
                act(source, arguments)
            output = forward(**arguments)
        if takes_out:
            output = taken_back(stack, output, source.after_encoder)
        return output

    return run


def _filling(embedding: nn.Module, forward: Forward) -> Forward:
    """An input embedding that fills soft slots with those of each row's foreword."""

    def run(*args: Any, **kwargs: Any) -> Any:
        source = source_for(embedding)
        if not isinstance(source, InForce) or source.slots is None or not args:
            return forward(*args, **kwargs)
        ids, packed = args[0], current().packed
        # An accelerator is not asked what it was given: where there is no slot, nothing is filled.
        if ids.device.type == "cpu" and not bool((ids < 0).any()):
            return forward(*args, **kwargs)
        output = forward(ids.clamp(min=0), *args[1:], **kwargs)
        if packed is None:
            return source.slots.fill(output, ids, source.index(ids.shape[0])[:, None])
        return source.slots.fill(output, ids, source.index(packed.rows)[packed.owner][None])

    return run


def by_name(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by its name, whichever way the model passed it."""
    names = fact(module, "parameters", lambda: tuple(inspect.signature(module.forward).parameters))
    return {**dict(zip(names, args, strict=False)), **kwargs}
