"""MLX-LM: a prefix as a prompt cache, which ``mlx_lm.generate --prompt-cache-file`` and ``load_prompt_cache`` read.

Layer l's keys are ``l.0`` and its values ``l.1``, both ``[1, H, P, D]``, and ``l.2`` the offset; the metadata name the
kind of each cache (mlx_lm/models/cache.py of 0.32). The base's ``rope_theta`` must stand at the top of its config:
where transformers nests it, MLX-LM silently takes 10,000, so the right number is written beside the cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from foreword.errors import FileFormatError
from foreword.export.base import ExportFormat, Exporting, as_json, local_base, task_files
from foreword.export.cache_layout import cache_of


def encode_cache(cache: Tensor) -> bytes:
    """The file of a cache ``[L, 2, H, P, D]``."""
    tensors: dict[str, Any] = {}
    metadata = {"0.model": "", "2.0": ""}
    for layer, (keys, values) in enumerate(cache.float().numpy()):
        tensors[f"{layer}.0"], tensors[f"{layer}.1"] = keys[None].copy(), values[None].copy()
        tensors[f"{layer}.2"] = np.array(cache.shape[3], np.int32)
        metadata |= {f"1.{layer}": "KVCache", f"2.{layer + 1}.0": f"{layer}.2", f"2.{layer + 1}.1": "scalar"}
    content: bytes = safetensors.numpy.save(tensors, metadata)
    return content


def decode_cache(content: bytes, where: str) -> Tensor:
    """The inverse of :func:`encode_cache`.

    Raises:
        FileFormatError: damaged, parts are missing, their shapes differ, or numbers are not finite.
    """
    layers = []
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as problem:
        raise FileFormatError(f"the file is damaged: {problem}", where=where) from problem
    for layer in range(len(tensors) // 3):
        pair = [tensors.get(f"{layer}.{part}") for part in range(3)]
        keys, values, offset = pair
        if keys is None or values is None or offset is None or keys.ndim != 4 or keys.shape != values.shape:
            raise FileFormatError(
                "this is no prompt cache of MLX-LM", where=where, expected=f"keys and values of layer {layer}"
            )
        length = int(offset)
        if keys.shape[0] != 1 or not 0 < length <= keys.shape[2]:
            raise FileFormatError("its offset lies outside of its keys", where=where, received=length)
        layers.append(torch.stack([keys[0, :, :length], values[0, :, :length]]).float())
    if not layers or len({tuple(pair.shape) for pair in layers}) > 1:
        raise FileFormatError("its layers have different shapes, or there are none", where=where)
    cache = torch.stack(layers)
    if not cache.isfinite().all():
        raise FileFormatError("some of its numbers are not finite", where=where)
    return cache


@dataclass(frozen=True)
class Mlx(ExportFormat):
    """A prompt cache."""

    name: ClassVar[str] = "mlx"
    title: ClassVar[str] = "MLX-LM"
    holds: ClassVar[tuple[str, ...]] = ("prefix",)
    needs: ClassVar[str] = "mlx-lm 0.32 or later"
    proven: ClassVar[str] = "greedy tokens equal on mlx-lm, float32, CPU"
    limits: ClassVar[str] = "rope_theta has to stand at the top of the base's config.json"
    runner: ClassVar[str] = "run_mlx.py"
    module: ClassVar[str] = "mlx_lm"
    package: ClassVar[str] = "mlx-lm (on Linux with mlx[cpu])"

    def job(self, exporting: Exporting) -> dict[str, Any]:
        file = exporting.folder.resolve() / f"{exporting.name}.safetensors"
        patch = exporting.folder / "config-patch.json"
        config = json.loads(patch.read_text("utf-8")) if patch.exists() else {}
        return {"base": local_base(exporting.base), "file": str(file), "config": config}

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        self.check(exporting)
        cache = cache_of(exporting, self.name)
        config = exporting.base.model.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        files = {f"{exporting.name}.safetensors": encode_cache(cache)}
        if "rope_theta" in rope:
            files["config-patch.json"] = as_json({"rope_theta": rope["rope_theta"]})
        return {**files, **task_files(exporting.manifest, exporting.value.text, [])}
