"""Whether a model may be given its rows end to end: asked of the model, not of its name."""

from __future__ import annotations

import weakref

import torch
from torch import nn
from transformers import PreTrainedModel

from foreword.core import attention, packing
from foreword.core.sites import backbone, find_sites

_LENGTHS = (3, 5, 2)
_KNOWN: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def packable(model: PreTrainedModel) -> bool:
    """Whether rows end to end give this model's own results: a decoder that is told the positions, in which tokens
    meet in attention only. Three short rows are run both ways, once for a model.
    """
    if model not in _KNOWN:
        sites = find_sites(model)
        _KNOWN[model] = sites.moves_positions and not sites.recurrent and _same(model)
    return _KNOWN[model]


def _same(model: PreTrainedModel) -> bool:
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(1, 1 + sum(_LENGTHS), device=model.device) % vocabulary
    how = packing.Packed(_LENGTHS, model.device)
    inner = backbone(model)
    with torch.no_grad(), attention.routed(model), attention.only(None):
        alone = [inner(input_ids=row[None], use_cache=False).last_hidden_state[0] for row in ids.split(_LENGTHS)]
        try:
            with packing.packed(how):
                together = inner(
                    input_ids=ids[None],
                    attention_mask=torch.ones_like(ids[None]),
                    position_ids=how.positions,
                    use_cache=False,
                ).last_hidden_state[0]
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            return False
    expected = torch.cat(alone).float()
    difference = (together.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    return bool(difference <= min(1000 * torch.finfo(model.dtype).eps, 0.1))
