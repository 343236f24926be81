"""The output layer, asked only for what is wanted of it: some places, some words, never all logits of all tokens.

Where a model's logits are what its output layer gives and nothing more (asked of the model, once), the layer is left
out of the pass and applied here: to the words that are scored, or chunk by chunk, so that no tensor holds more than a
chunk's logits, neither forward nor backward. Other models (scaled or soft-capped logits) compute theirs in the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import aside, current, holding

# Logits of one chunk, at most: 64 MiB in float32. Not measured against other sizes.
CHUNK = 1 << 24

Places = tuple[Tensor, Tensor]


class _Wanted:
    """One pass of a model, in which the output layer sees some places only, or nothing."""

    def __init__(self, at: Places, skip: bool) -> None:
        self.at, self.skip = at, skip
        self.states: Tensor | None = None

    def run(self, forward: Forward, hidden: Tensor) -> Tensor:
        """The layer on ``hidden[at]`` as ``[1, N, E]``; what follows it works on any shape."""
        packed = current().packed
        # A last layer that ran for the wanted places alone has given exactly these.
        states = hidden if packed is not None and packed.pruned is not None else hidden[self.at][None]
        self.states = states
        logits: Tensor = forward(states[:, :0] if self.skip else states)
        return logits


class _Given:
    """A pass whose output layer gives fixed logits ``[1, 1, V]``, whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def run(self, forward: Forward, hidden: Tensor) -> Tensor:
        return self.logits.expand(*hidden.shape[:-1], -1).clone()


def _hook_set(model: PreTrainedModel) -> HookSet:
    hold = HookSet()
    hold.wrap(model.get_output_embeddings(), Level.OUTPUT, _as_wanted)
    return hold


def _as_wanted(forward: Forward) -> Forward:
    def run(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = current().output
        return output.run(forward, hidden) if isinstance(output, _Wanted | _Given) else forward(hidden, *args, **kwargs)

    return run


@contextmanager
def _asked(model: PreTrainedModel, wanted: _Wanted) -> Iterator[None]:
    """Let the output layer see only what is wanted, in this thread."""
    with holding(_hook_set(model), output=wanted):
        yield


def logits_at(model: PreTrainedModel, rows: Tensor, positions: Tensor, **inputs: Any) -> Tensor:
    """The logits ``[N, V]`` in float32 at N places, given by row and position, of one forward pass."""
    with _asked(model, _Wanted((rows, positions), skip=False)):
        logits: Tensor = model(**inputs, use_cache=False).logits[0].float()
    return logits


def _states_at(model: PreTrainedModel, at: Places, **inputs: Any) -> Tensor:
    """What the output layer would be given at N places ``[N, E]``; it computes nothing."""
    wanted = _Wanted(at, skip=True)
    with _asked(model, wanted):
        model(**inputs, use_cache=False)
    assert wanted.states is not None
    return wanted.states[0]


def plain(model: PreTrainedModel) -> bool:
    """Whether the model's logits are what its linear output layer gives, whatever that is."""
    return fact(model, "plain output", lambda: _passes_on(model, model.get_output_embeddings()))


def _passes_on(model: PreTrainedModel, layer: nn.Module | None) -> bool:
    if type(layer) is not nn.Linear:
        return False
    # Large numbers: a soft cap or a scale shows.
    logits = torch.linspace(-1000, 1000, layer.out_features, device=model.device, dtype=layer.weight.dtype)[None, None]
    ids = torch.ones(1, 2, dtype=torch.long, device=model.device)
    given = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad(), aside(), holding(_hook_set(model), output=_Given(logits)):
        return torch.equal(model(input_ids=ids, use_cache=False, **given).logits, logits.expand(1, 2, -1))


def log_probs(model: PreTrainedModel, at: Places, which: Tensor, words: Tensor, **inputs: Any) -> Tensor:
    """log p of words ``[K]`` in float32.

    Args:
        at: N places of the pass, row and position.
        which: for each word its place among ``at`` ``[K]``.
        words: token ids ``[K]``.
    """
    if not plain(model):
        return logits_at(model, *at, **inputs).log_softmax(-1)[which, words]
    states = _states_at(model, at, **inputs)
    layer = model.get_output_embeddings()
    weight, bias = layer.weight, layer.bias
    size = max(1, CHUNK // len(weight))
    if len(states) <= size:
        return _of_chunk(states, weight, bias, which, words)
    found = []
    for start in range(0, len(states), size):
        own = (which >= start) & (which < start + size)
        part = (states[start : start + size], weight, bias, which[own] - start, words[own])
        found.append(checkpoint(_of_chunk, *part, use_reentrant=False) if torch.is_grad_enabled() else _of_chunk(*part))
    order = torch.cat([((which >= s) & (which < s + size)).nonzero()[:, 0] for s in range(0, len(states), size)])
    return torch.cat(found)[order.argsort()]


def _of_chunk(states: Tensor, weight: Tensor, bias: Tensor | None, which: Tensor, words: Tensor) -> Tensor:
    logits = linear(states, weight, bias).float()
    return logits[which, words] - logits.logsumexp(-1)[which]


def word_logits(model: PreTrainedModel, at: Places, words: Tensor, **inputs: Any) -> Tensor:
    """Logits ``[N, C]`` in float32 of C words at N places: what log p is but for a constant of the place."""
    if not plain(model):
        return logits_at(model, *at, **inputs)[:, words]
    states = _states_at(model, at, **inputs)
    layer = model.get_output_embeddings()
    return linear(states, layer.weight[words], None if layer.bias is None else layer.bias[words]).float()
