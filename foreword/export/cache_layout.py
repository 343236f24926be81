"""A prefix as the cache of a decoder has it: ``[L, 2, H, P, D]``, rotated for positions 0..P-1. Engines that keep a
cache of keys and values all take this; what would not be the same in a cache is refused here, for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue
from foreword.errors import SettingsError
from foreword.export.base import Exporting

# Kinds of rotary positions whose angles do not depend on how long the sequence is.
_FIXED_ROPE = ("default", "linear", "llama3", None)


def cache_of(exporting: Exporting, format_name: str) -> Tensor:
    """Keys and values of every layer, ``[L, 2, H, P, D]`` in float32 on the CPU.

    Raises:
        SettingsError: a base or prefix whose keys and values another engine's cache would not hold as they are.
    """
    where = f"--to {format_name}"
    _check_base(exporting, where)
    sites, value = find_sites(exporting.base.model), exporting.value
    names = [name for name, site in sites.sites.items() if site.kind == "self"]
    missing = [name for name in names if name not in value.sites]
    if missing:
        raise SettingsError(
            "it does not have keys and values for every layer",
            where=where,
            expected=f"{len(names)} layers",
            received=f"nothing at {missing[0]}",
            hint="train it on all layers",
        )
    pairs = [value.sites[name] for name in names]
    shapes = {tuple(tensor.shape) for pair in pairs for tensor in (pair.keys, pair.values)}
    if len(shapes) > 1:
        raise SettingsError(
            "its layers, or its keys and values, have different shapes",
            where=where,
            expected="one shape [P, H, D]",
            received=", ".join(sorted(str(list(shape)) for shape in shapes)),
        )
    layers = [torch.stack([pair.keys, pair.values]) for pair in pairs]
    return torch.stack(layers).detach().float().cpu().permute(0, 1, 3, 2, 4).contiguous()


def value_of(cache: Tensor, sites: Sequence[str]) -> Foreword:
    """The inverse of :func:`cache_of`.

    Args:
        cache: ``[L, 2, H, P, D]``.
        sites: the names of the base's self-attention sites in the order of its layers.
    """
    pairs = cache.permute(0, 1, 3, 2, 4)
    return Foreword(sites={name: KeyValue(*pair) for name, pair in zip(sites, pairs, strict=True)})


def _check_base(exporting: Exporting, where: str) -> None:
    model, manifest = exporting.base.model, exporting.manifest
    sites = find_sites(model)
    if sites.kind != "decoder" or manifest.positions != "cache":
        raise SettingsError(
            "only a decoder's prefix stands in a cache",
            where=where,
            expected="a decoder whose content starts behind the prefix",
            received=f"an {sites.kind}, positions {manifest.positions}",
        )
    if sites.recurrent or sites.stateful:
        raise SettingsError("some layers keep a state that a cache of keys and values does not hold", where=where)
    if sites.windowed is not None:
        raise SettingsError(
            "sliding windows are not proven: an engine may drop a prefix that leaves the window",
            where=where,
            expected="full attention in every layer",
            received=f"a window of {sites.windowed} tokens",
        )
    rope = _rope_kind(model.config.get_text_config())
    if rope not in _FIXED_ROPE:
        raise SettingsError(
            "rotary positions that depend on the length of a sequence do not fit keys that were rotated before",
            where=where,
            received=str(rope),
        )


def _rope_kind(config: object) -> str | None:
    settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind: str | None = settings.get("rope_type", settings.get("type"))
    return kind
