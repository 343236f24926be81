"""Initial values: what a text, a soft prompt, the vocabulary or chance gives each site.

The canonical value of a text is what the frozen base itself computes for it, taken at the place where it will be put
in again: keys and values as they reach the attention function, rotated for positions 0..P-1. In a causal model without
recurrent layers such a foreword *is* the text in front (Contract 7); in an encoder the text would have seen the content
too, so there it is a good start and not the same. The text in front of an encoder-decoder's input is nothing that its
decoder has written: there the start is the token that every answer begins with, as often as the text has tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.attention.pass_context import aside
from foreword.core.attention.routing import routed
from foreword.core.attention.sources import Call
from foreword.core.inject.sites import Site, find_sites, run
from foreword.core.inject.value import KeyValue
from foreword.errors import SettingsError


def from_ids(model: PreTrainedModel, ids: Sequence[int]) -> dict[str, KeyValue]:
    """The keys and values of a text at every site; ``ids`` has P tokens.

    Raises:
        SettingsError: no tokens.
    """
    if not ids:
        raise SettingsError(
            "an empty text has no keys and values", hint="give the prompt some words, or use init=random"
        )
    with torch.no_grad():
        return _captured(model, torch.tensor([list(ids)], device=model.device))


def from_embeddings(model: PreTrainedModel, prompt: Tensor) -> dict[str, KeyValue]:
    """The keys and values of a soft prompt ``[P, E]`` at every site; differentiable."""
    return _captured(model, prompt[None])


def _captured(model: PreTrainedModel, tokens: Tensor) -> dict[str, KeyValue]:
    calls: list[Call] = []
    sites = find_sites(model)
    with routed(model), aside(calls=calls):
        run(model, tokens, _unwritten(model, tokens.shape[1]))
    taken = {m: iter(names) for m, names in sites.modules.items()}
    return {
        next(taken[call.module]): KeyValue(call.key[0].transpose(0, 1), call.value[0].transpose(0, 1)) for call in calls
    }


def _unwritten(model: PreTrainedModel, length: int) -> Tensor | None:
    """What an encoder-decoder's decoder reads meanwhile ``[1, P]``; None for other models."""
    if not model.config.is_encoder_decoder:
        return None
    return torch.full((1, length), int(model.config.decoder_start_token_id), device=model.device)


def told_apart(values: Mapping[str, KeyValue], scale: float, generator: torch.Generator) -> dict[str, KeyValue]:
    """The values with N(0, scale^2) added to all positions but the first: equal ones would learn the same for ever."""

    def moved(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=generator) * scale
        noise[0] = 0
        return x + noise.to(x)

    return {name: KeyValue(moved(kv.keys), moved(kv.values)) for name, kv in values.items()}


def random(sites: Mapping[str, Site], length: int, scale: float, generator: torch.Generator) -> dict[str, KeyValue]:
    """Keys and values drawn from N(0, scale^2) for ``length`` virtual tokens.

    The common default of N(0, 1) drowns the content's own keys; 0.02 lets training find the scale.
    """

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    return {
        name: KeyValue(draw(length, s.heads, s.key_size), draw(length, s.heads, s.value_size))
        for name, s in sites.items()
    }


def embeddings_of(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """The embeddings ``[P, E]`` of the given tokens, as the model's first layer receives them."""
    with torch.no_grad():
        found: Tensor = model.get_input_embeddings()(torch.tensor(list(ids), dtype=torch.long, device=model.device))
    return found.float().cpu()


def vocabulary(model: PreTrainedModel, length: int, generator: torch.Generator, first: int = 5000) -> Tensor:
    """Embeddings ``[P, E]`` of ``length`` tokens drawn from the ``first`` of the vocabulary (Lester et al. 2021,
    3.2)."""
    ids = torch.randint(min(first, model.config.get_text_config().vocab_size), (length,), generator=generator)
    return embeddings_of(model, ids.tolist())


def fit_length(ids: Sequence[int], length: int | None) -> list[int]:
    """The text's tokens as ``length`` virtual tokens: cut at the end, or begun again; None keeps them as they are."""
    if length is None or not ids:
        return list(ids)
    return [ids[i % len(ids)] for i in range(length)]
