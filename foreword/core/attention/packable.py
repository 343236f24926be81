"""Whether a model may be given its rows end to end, and its last layer some tokens only: asked of the model, not of its
name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.last_layer_pruning import prune
from foreword.core.attention.model_state import fact
from foreword.core.attention.packing import Packed
from foreword.core.attention.pass_context import aside, holding
from foreword.core.attention.routing import route, routed
from foreword.core.inject.sites import SiteMap, backbone, find_sites

_LENGTHS = (3, 5, 2)
_WANTED = ((0, 2), (1, 0), (1, 3), (2, 1))


@dataclass(frozen=True)
class _Verdict:
    packable: bool
    last: nn.Module | None


def packable(model: PreTrainedModel) -> bool:
    """Whether rows end to end give this model's own results: a decoder that is told the positions, in which tokens
    meet in attention only. Three short rows are run both ways, once for a model.
    """
    return _verdict(model).packable


def last_layer(model: PreTrainedModel) -> nn.Module | None:
    """The layer that may run for the wanted tokens of packed rows alone; None where that is not the same."""
    return _verdict(model).last


def _verdict(model: PreTrainedModel) -> _Verdict:
    return fact(model, "packing", lambda: _try(model))


def _try(model: PreTrainedModel) -> _Verdict:
    sites = find_sites(model)
    # Where long rows have all positions turned otherwise, rows end to end would be turned by the longest of them.
    if not sites.moves_positions or sites.recurrent or sites.stretches_at is not None:
        return _Verdict(False, None)
    expected, ids = _rows(model)
    if not _same(model, ids, expected, None, None):
        return _Verdict(False, None)
    layer, packed = _last(model, sites), Packed(_LENGTHS, model.device)
    places = [int(packed.start[row]) + place for row, place in _WANTED]
    cut = layer is not None and _same(model, ids, expected[places], layer, _WANTED)
    return _Verdict(True, layer if cut else None)


def _last(model: PreTrainedModel, sites: SiteMap) -> nn.Module | None:
    """The last of a list of layers, if it holds the last attention and no other."""
    name = next(reversed(sites.sites))
    module = next(module for module, names in sites.modules.items() if name in names)
    for layers in model.modules():
        if isinstance(layers, nn.ModuleList) and len(layers) and module in (inside := set(layers[-1].modules())):
            alone = sites.modules[module] == (name,) and not any(m in inside for m in sites.modules if m is not module)
            return layers[-1] if alone else None
    return None


def _rows(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """What the model gives for each row alone, end to end ``[N, E]``, and their ids ``[N]``."""
    ids = torch.arange(1, 1 + sum(_LENGTHS), device=model.device) % model.config.get_text_config().vocab_size
    with torch.no_grad(), routed(model), aside(fused=False):
        alone = [backbone(model)(input_ids=row[None], use_cache=False)[0][0] for row in ids.split(_LENGTHS)]
    return torch.cat(alone), ids


def _same(
    model: PreTrainedModel,
    ids: Tensor,
    expected: Tensor,
    layer: nn.Module | None,
    wanted: tuple[tuple[int, int], ...] | None,
) -> bool:
    packed, hold = Packed(_LENGTHS, model.device), HookSet()
    packed.wanted = wanted
    given = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids[None]), "position_ids": packed.positions}
    route(hold, model)
    prune(hold, layer)
    try:
        with torch.no_grad(), aside(fused=False), holding(hold, packed=packed):
            got = backbone(model)(**given, use_cache=False)[0][0]
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return False
    if got.shape != expected.shape:
        return False
    difference = (got.float() - expected.float()).abs().max() / expected.float().abs().max().clamp(min=1e-6)
    return bool(difference <= min(1000 * torch.finfo(model.dtype).eps, 0.1))
