"""Keys and values of running rows in memory that is allocated once: each row has a slot of its own.

Letters: S slots, M tokens a slot holds, N tokens of a step; the rest as in :mod:`foreword.core.inject.value`.
A step's tokens of all rows stand end to end in one pass ``[1, N]``; the attention function
(:mod:`foreword.serve.engine.row_attention`) files each token's keys and values under its row's slot and reads the slots
as views. Nothing is concatenated and nothing grows. It is no transformers ``Cache``: that is given what a layer
computes before attention (MLA's compressed states, for one), this holds what attention reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.inject.sites import Site, find_sites
from foreword.core.passes.memory import available
from foreword.errors import ResourceError, UnsupportedBaseError
from foreword.serve.engine.step_plan import StepPlan


def decoder_sites(model: PreTrainedModel) -> list[Site]:
    """The self-attention sites of a causal decoder, in the order of its layers.

    Raises:
        UnsupportedBaseError: the model has other layers too, so rows cannot be continued from keys and values alone.
    """
    found = find_sites(model)
    sites = sorted(found.sites.values(), key=lambda site: site.layer)
    attends = all(site.kind == "self" and site.causal for site in sites)
    shared = any(len(names) > 1 for names in found.modules.values())
    if found.kind != "decoder" or found.recurrent or found.stateful or shared or not attends:
        raise UnsupportedBaseError(
            f"{type(model).__name__} cannot write in the server",
            expected="a causal decoder whose every layer attends",
            received=f"{found.kind}{', with recurrent layers' if found.recurrent or found.stateful else ''}",
            hint="the server answers /v1/classify and /v1/tag with it; `foreword generate` writes with it",
        )
    return sites


def bytes_a_token(model: PreTrainedModel) -> int:
    """What the keys and values of one token take, in all layers."""
    values = sum(site.heads * (site.key_size + site.value_size) for site in decoder_sites(model))
    return values * model.dtype.itemsize


class SlotCache:
    """Preallocated keys ``[S, H, M, Dk]`` and values ``[S, H, M, Dv]`` for each layer.

    Raises:
        ResourceError: the memory for it is not there.
    """

    def __init__(self, model: PreTrainedModel, slots: int, length: int) -> None:
        self.slots, self.length = slots, length
        self.sites = decoder_sites(model)
        need, there = slots * length * bytes_a_token(model), available(model.device)
        if there and need > there:
            # Asked before, not when pages are first written to: then the system would end the process.
            raise ResourceError(
                "not enough memory for the rows' keys and values",
                expected=f"{need / 2**30:.1f} GiB for {slots} rows of {length} tokens",
                received=f"{there / 2**30:.1f} GiB",
                hint="serve fewer rows at once or shorter ones: --rows, --length",
            )
        self.keys = [self._empty(model, slots, length, site.heads, site.key_size) for site in self.sites]
        self.values = [self._empty(model, slots, length, site.heads, site.value_size) for site in self.sites]
        places = {site.name: place for place, site in enumerate(self.sites)}
        self._at: dict[nn.Module, int] = {
            module: places[names[0]] for module, names in find_sites(model).modules.items()
        }

    @staticmethod
    def _empty(model: PreTrainedModel, slots: int, length: int, heads: int, size: int) -> Tensor:
        # Zeros, not whatever was there: a masked NaN is still a NaN. Pages nobody writes to take no memory.
        return torch.zeros(slots, heads, length, size, dtype=model.dtype, device=model.device)

    def layer_of(self, module: nn.Module) -> int:
        """The place of an attention module among the sites."""
        return self._at[module]

    def file(self, layer: int, plan: StepPlan, keys: Tensor, values: Tensor) -> None:
        """Put the step's keys and values ``[1, H, N, D]`` into their rows' slots."""
        self.keys[layer][plan.slots, :, plan.places] = keys[0].transpose(0, 1)
        self.values[layer][plan.slots, :, plan.places] = values[0].transpose(0, 1)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a row's first ``tokens`` tokens into another slot."""
        for store in (*self.keys, *self.values):
            store[target, :, :tokens] = store[source, :, :tokens]


def slot_slice(slots: Sequence[int]) -> slice | None:
    """The slots as a slice when they follow each other, so that they can be read as a view."""
    if not slots or any(b - a != 1 for a, b in pairwise(slots)):
        return None
    return slice(slots[0], slots[-1] + 1)
