"""LoRA in PEFT's format: two tensors for each layer, ``base_model.model.LAYER.lora_A.weight [r, in]`` and
``...lora_B.weight [out, r]``.

PEFT multiplies by a scale (lora_alpha / r, or lora_alpha / sqrt(r) with ``use_rslora``), which differs by layer where
``rank_pattern`` or ``alpha_pattern`` say so. Ours is part of B already, so exports say lora_alpha = r for each layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from foreword.core.inject.value import LowRank
from foreword.errors import FileFormatError, SettingsError
from foreword.export.foreign_checkpoint import finite_number, whole_number

KIND, CONFIG = "LORA", "adapter_config.json"
_NAME = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<factor>[AB])\.weight")
# What these say has no place in two factors a layer; PEFT writes the values here where nothing is asked for.
_PLAIN: Mapping[str, tuple[object, ...]] = {
    "bias": ("none", None), "use_dora": (False, None), "lora_bias": (False, None), "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}), "target_parameters": (None, []), "layer_replication": (None, []),
    "use_qalora": (False, None), "alora_invocation_tokens": (None, []), "velora_config": (None,), "use_bdlora": (None,),
    "arrow_config": (None,), "kasa_config": (None,), "monteclora_config": (None,),
}  # fmt: skip


def to_peft(adapters: Mapping[str, LowRank], base_type: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """PEFT's tensors, and the fields of its config that describe them."""
    tensors = {}
    for layer, pair in adapters.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = pair.a
        tensors[f"base_model.model.{layer}.lora_B.weight"] = pair.b
    ranks = {layer: pair.a.shape[0] for layer, pair in adapters.items()}
    common = max(set(ranks.values()), key=list(ranks.values()).count)
    others = {f"^{re.escape(layer)}": rank for layer, rank in ranks.items() if rank != common}
    fields: dict[str, object] = {
        "peft_type": KIND,
        "r": common,
        "lora_alpha": common,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(adapters),
        "lora_dropout": 0.0,
        "bias": "none",
        # How PEFT finds in and out of GPT-2's layers, whose weights are stored the other way round.
        "fan_in_fan_out": base_type == "gpt2",
    }
    return tensors, fields


def from_peft(
    config: Mapping[str, object], tensors: Mapping[str, Tensor], layers: Mapping[str, tuple[int, int]], root: Path
) -> dict[str, LowRank]:
    """The changes that a PEFT checkpoint of LoRA makes.

    Args:
        config: its ``adapter_config.json``.
        tensors: its tensors.
        layers: the base's linear layers, name -> (in, out).
        root: its folder, for errors.

    Raises:
        FileFormatError: parts that do not fit each other or the base.
        SettingsError: it holds what two factors a layer cannot say.
    """
    for key, plain in _PLAIN.items():
        if key in config and config[key] not in plain:
            raise SettingsError(
                f"PEFT and foreword cannot exchange this: its {key} is more than two factors a layer",
                where=str(root),
                expected=plain[0],
                received=repr(config[key])[:80],
                hint="train it here instead, or in PEFT without that",
            )
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None or tensor.ndim != 2:
            raise FileFormatError(
                "not LoRA of a linear layer",
                where=str(root),
                expected="base_model.model.LAYER.lora_A.weight [r, in] and lora_B.weight [out, r]",
                received=f"{name[:120]!r} {list(tensor.shape)}",
            )
        factors.setdefault(found["layer"], {})[found["factor"]] = tensor
    adapters: dict[str, LowRank] = {}
    for layer, parts in factors.items():
        name = _known(layer, layers, root)
        if parts.keys() != {"A", "B"} or name in adapters:
            raise FileFormatError("a layer does not have two factors", where=str(root), received=layer[:120])
        scale = _scale(layer, parts["A"].shape[0], config, root)
        adapters[name] = _pair(name, parts["A"], parts["B"] * scale, layers[name], root)
    return adapters


def _known(layer: str, layers: Mapping[str, tuple[int, int]], root: Path) -> str:
    """The layer's name here: the model that PEFT trained may have had another head around the same base."""
    fits = (n for n in layers if n == layer or layer.endswith(f".{n}") or n.endswith(f".{layer}"))
    name = next(fits, None)
    if name is None:
        raise FileFormatError(
            "the checkpoint changes a layer that this base does not have, or that cannot be changed",
            where=str(root),
            expected=", ".join(list(layers)[:3]) + ", ...",
            received=layer[:120],
            hint="give the base that base_model_name_or_path names; embeddings and output layers cannot be changed so",
        )
    return name


def _pair(name: str, a: Tensor, b: Tensor, size: tuple[int, int], root: Path) -> LowRank:
    if a.shape[0] != b.shape[1] or (a.shape[1], b.shape[0]) != size:
        raise FileFormatError(
            f"the factors of {name} do not fit the layer",
            where=str(root),
            expected=f"[r, {size[0]}] and [{size[1]}, r]",
            received=f"{list(a.shape)} and {list(b.shape)}",
        )
    return LowRank(a, b)


def _scale(layer: str, rank: int, config: Mapping[str, object], root: Path) -> float:
    """What PEFT multiplies this layer's change by."""
    stated = _of(layer, config, "rank_pattern", root) or whole_number(config, "r", root / CONFIG)
    if stated != rank:
        raise FileFormatError(
            f"the factors of {layer[:120]} have another rank than the config says",
            where=str(root),
            expected=stated,
            received=rank,
        )
    alpha = _of(layer, config, "alpha_pattern", root) or finite_number(config, "lora_alpha", root / CONFIG)
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _of(layer: str, config: Mapping[str, object], key: str, root: Path) -> float | None:
    """The layer's own value in a pattern of PEFT's, whose keys are expressions for the end of a name."""
    pattern = config.get(key) or {}
    if not isinstance(pattern, Mapping):
        raise FileFormatError(f"{key} is not an object", where=str(root), received=repr(pattern)[:80])
    for expression in pattern:
        # Names with dots are all that such keys hold in practice; a long or odd expression is not run.
        plain = expression.removeprefix("^").replace("\\", "")
        if not re.fullmatch(r"[A-Za-z0-9_.]+", plain):
            raise FileFormatError(f"a key of {key} is no layer's name", where=str(root), received=expression[:80])
        if layer == plain or (not expression.startswith("^") and layer.endswith(f".{plain}")):
            return finite_number(pattern, expression, root)
    return None
