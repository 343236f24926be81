"""The forewords of running rows, each stored once whatever the number of its rows.

Letters: F forewords, W the widest's virtual tokens, R the largest rank of a low-rank change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import Site
from foreword.core.inject.value import Foreword


class PrefixBank:
    """Keys ``[F, H, W, Dk]`` and values ``[F, H, W, Dv]`` for each layer; grows by doubling."""

    def __init__(self, model: PreTrainedModel, sites: Sequence[Site]) -> None:
        self.sites, self._device, self._dtype = list(sites), model.device, model.dtype
        self._keys = [self._empty(0, site.heads, 0, site.key_size) for site in self.sites]
        self._values = [self._empty(0, site.heads, 0, site.value_size) for site in self.sites]

    def _empty(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=self._dtype, device=self._device)

    def layer(self, place: int) -> tuple[Tensor, Tensor]:
        """Keys and values of every foreword in the layer at ``place`` among the sites."""
        return self._keys[place], self._values[place]

    def put(self, place: int, value: Foreword) -> None:
        """File the foreword's keys and values at ``place``."""
        width = value.num_virtual_tokens
        self._keys = [self._grown(store, place + 1, width) for store in self._keys]
        self._values = [self._grown(store, place + 1, width) for store in self._values]
        for site, keys, values in zip(self.sites, self._keys, self._values, strict=True):
            pair = value.sites.get(site.name)
            if pair is not None:
                keys[place, :, :width] = pair.keys.transpose(0, 1).to(keys)
                values[place, :, :width] = pair.values.transpose(0, 1).to(values)

    def _grown(self, store: Tensor, count: int, width: int) -> Tensor:
        forewords, heads, widest, size = store.shape
        if count <= forewords and width <= widest:
            return store
        more = max(forewords, 1)
        while more < count:
            more *= 2
        larger = self._empty(more, heads, max(width, widest), size)
        larger[:forewords, :, :widest] = store
        return larger


class DeltaBank:
    """Low-rank changes of linear layers: ``a [F, R, in]`` and ``b [F, out, R]`` for each layer that one changes."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._layers = linear_layers(model)
        self.pairs: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def put(self, place: int, value: Foreword) -> None:
        """File the foreword's changes at ``place``; what was there before is gone."""
        for name in value.adapters:
            layer = self._layers[name]
            if layer not in self.pairs:
                inner, outer = sizes(layer)
                weight = layer.weight
                assert isinstance(weight, Tensor)
                self.pairs[layer] = (weight.new_zeros(0, 0, inner), weight.new_zeros(0, outer, 0))
        for name, layer in self._layers.items():
            if layer not in self.pairs:
                continue
            pair = value.adapters.get(name)
            rank = 0 if pair is None else pair.a.shape[0]
            a, b = self._grown(*self.pairs[layer], place + 1, rank)
            a[place], b[place] = 0, 0
            if pair is not None:
                a[place, :rank], b[place, :, :rank] = pair.a.to(a), pair.b.to(b)
            self.pairs[layer] = (a, b)

    @staticmethod
    def _grown(a: Tensor, b: Tensor, count: int, rank: int) -> tuple[Tensor, Tensor]:
        forewords, ranks = a.shape[:2]
        if count <= forewords and rank <= ranks:
            return a, b
        more, wide = max(forewords, 1), max(rank, ranks)
        while more < count:
            more *= 2
        new_a, new_b = a.new_zeros(more, wide, a.shape[2]), b.new_zeros(more, b.shape[1], wide)
        new_a[:forewords, :ranks], new_b[:forewords, :, :ranks] = a, b
        return new_a, new_b


class Places:
    """Which foreword is at which place of the banks: a place is free again once no row uses it and another needs it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._at: dict[object, int] = {}
        self._users: dict[object, int] = {}

    def take(self, key: object) -> tuple[int, bool]:
        """The place of ``key`` for one more row, and whether its foreword must be filed there first.

        There are as many places as rows, so that one is always free.
        """
        new = key not in self._at
        if new:
            self._at[key] = self._free()
        # The last to be used stands last.
        self._at[key] = self._at.pop(key)
        self._users[key] = self._users.get(key, 0) + 1
        return self._at[key], new

    def _free(self) -> int:
        if len(self._at) < self.count:
            return min(set(range(self.count)) - set(self._at.values()))
        idle = next(key for key in self._at if not self._users.get(key))
        return self._at.pop(idle)

    def give_back(self, key: object) -> None:
        """One row less; the foreword stays until its place is needed."""
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]

    def forget(self, key: object) -> None:
        """Nothing will ask for ``key`` again; rows that use it finish first."""
        if not self._users.get(key):
            self._at.pop(key, None)
