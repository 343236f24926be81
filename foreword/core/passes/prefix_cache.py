"""What stands in a row before its first soft slot: its keys and values, computed once and put in front ever after.

In a causal model nothing that is learned behind a token changes what the token does, so a row's words before its first
slot are to the rest of the row what a prefix is: keys and values at every site. A step of training then runs over the
rest alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject import initial_values
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue
from foreword.core.passes.tensor_cache import TensorCache


class PrefixCache:
    """The beginnings of rows on ``model``, kept in ``store``.

    Args:
        name: what tells the model from others that use the same store.
    """

    def __init__(self, model: PreTrainedModel, store: TensorCache, name: str = "") -> None:
        self.model, self.store, self.name = model, store, name
        self.sites = find_sites(model).sites

    def size(self, tokens: int) -> int:
        """Bytes that the keys and values of ``tokens`` tokens take."""
        values = sum(site.heads * (site.key_size + site.value_size) for site in self.sites.values())
        return tokens * values * self.model.dtype.itemsize

    def keep(self, ids: Sequence[int]) -> bool:
        """Compute and keep what stands before the first slot of the row ``ids``; False where there is no room."""
        start = ids[: begins(ids)]
        if not start or self._key(start) in self.store:
            return True
        found = initial_values.from_ids(self.model, start)
        flat = [part.reshape(-1) for name in self.sites for part in (found[name].keys, found[name].values)]
        return self.store.put(self._key(start), torch.cat(flat))

    def front(self, ids: Sequence[int]) -> Mapping[str, KeyValue] | None:
        """The keys and values of what stands before the first slot of the row ``ids``; None: nothing, or not kept."""
        start = ids[: begins(ids)]
        flat = self.store.get(self._key(start)) if start else None
        return None if flat is None else self._apart(flat.to(self.model.device), len(start))

    def _apart(self, flat: Tensor, tokens: int) -> dict[str, KeyValue]:
        out, at = {}, 0
        for name, site in self.sites.items():
            parts = []
            for size in (site.key_size, site.value_size):
                count = tokens * site.heads * size
                parts.append(flat[at : at + count].view(tokens, site.heads, size))
                at += count
            out[name] = KeyValue(*parts)
        return out

    def _key(self, start: Sequence[int]) -> str:
        told = hashlib.blake2b(self.name.encode(), digest_size=20)
        told.update(torch.tensor(list(start)).numpy().tobytes())
        return told.hexdigest()


def begins(ids: Sequence[int]) -> int:
    """How many tokens stand before the first soft slot of a row; 0 for a row without slots."""
    return next((place for place, token in enumerate(ids) if token < 0), 0)


def has_past(model: PreTrainedModel, value: Foreword) -> bool:
    """Whether what stands before a slot stays as it is while ``value`` trains: a causal model that is given slots and
    nothing else."""
    sites = find_sites(model)
    if sites.kind != "decoder" or not sites.moves_positions or sites.recurrent or sites.stateful:
        return False
    others = value.prompt is not None or value.sites or value.adapters or value.weights
    return value.slots is not None and not others
