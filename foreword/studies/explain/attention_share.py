"""How much of the content's attention goes to what stands in front, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foreword.core.attention.pass_context import within
from foreword.core.attention.sources import Weighed
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import SiteMap, find_sites, run
from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example
from foreword.evaluation.predict import Asker


@dataclass(frozen=True)
class AttentionShare:
    """Attention at one site.

    Args:
        site: its name.
        share: of the content's attention that goes to the foreword (or to its text, where that is all it has); mean
            over heads, tokens and rows.
        even: what that share would be if every token got the same.
    """

    site: str
    share: float
    even: float


def attention_shares(asker: Asker, value: Foreword, rows: Sequence[Example]) -> list[AttentionShare]:
    """One figure a site, for the sites that see the foreword. Rows run alone, so that no padding is counted."""
    sites = find_sites(asker.model)
    shares: dict[str, list[tuple[float, float]]] = {}
    for row in asker.worded(value, rows):
        ids = [*asker.lead(value), *row.input_ids]
        kept: list[Weighed] = []
        tokens = torch.tensor([ids], device=asker.model.device)
        with torch.no_grad(), injected(asker.model, [value]), within(packed=None, weights=kept):
            run(asker.model, tokens)
        names = {module: iter(found) for module, found in sites.modules.items()}
        for call in kept:
            name = next(names[call.module])
            front = _front(value, sites, name, ids, len(asker.lead(value)), call.weights)
            if front is not None:
                shares.setdefault(name, []).append(_share(call.weights[0], *front))
    return [
        AttentionShare(name, sum(one for one, _ in found) / len(found), sum(even for _, even in found) / len(found))
        for name, found in shares.items()
    ]


def _front(
    value: Foreword, sites: SiteMap, name: str, ids: Sequence[int], lead: int, weights: Tensor
) -> tuple[list[int], int] | None:
    """The columns of the foreword at a site, and how many queries in front are its own; None: it is not seen there."""
    count, site, (asked, keys) = value.num_virtual_tokens, sites.sites[name], weights.shape[1:]
    if value.sites:
        return (list(range(count)), 0) if name in value.sites else None
    # A soft prompt is in the stack that reads the rows, and no longer there when a decoder looks across.
    reads = site.kind == "self" and (sites.kind != "encoder-decoder" or site.stack == "encoder")
    if value.prompt is not None:
        # A decoder is given what the prompt leaves at the sites, so only an encoder's prompt asks, too.
        return (list(range(count)), asked - len(ids)) if reads and keys == count + len(ids) else None
    if value.slots is not None:
        columns = [place for place, token in enumerate(ids) if token < 0]
        return (columns, 0) if reads and columns and keys == len(ids) else None
    return (list(range(lead)), lead) if reads and 0 < lead < len(ids) and keys == len(ids) else None


def _share(weights: Tensor, columns: Sequence[int], own: int) -> tuple[float, float]:
    """Share of the columns in ``weights [T, S]``, and what it would be if every visible key got the same."""
    asked = weights[own:]
    seen = (asked > 0).float()
    even = seen[:, columns].sum(-1) / seen.sum(-1).clamp(min=1)
    return float(asked[:, columns].sum(-1).mean()), float(even.mean())
