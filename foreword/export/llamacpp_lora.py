"""LoRA as llama.cpp's adapter: a GGUF with two tensors for each changed layer.

``NAME.weight.lora_a [r, in]`` and ``NAME.weight.lora_b [out, r]``, where NAME is the engine's name of the layer
(``blk.0.attn_q``). ``adapter.lora.alpha`` is 0, which llama.cpp reads as no scale: ours is part of B already. What the
converter of a base does to a layer's outputs has to be done to B: Llama's queries and keys are put in neighbouring
pairs (convert_hf_to_gguf.py, ``LlamaModel.permute``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foreword.core.inject.value import LowRank
from foreword.errors import FileFormatError, SettingsError
from foreword.export.llamacpp_state import Array, halves, interleaved

# transformers' model_type -> llama.cpp's name of the architecture, where both were run and agreed.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "phi3": "phi3",
}  # fmt: skip
# Architectures whose queries and keys llama.cpp rotates in neighbouring pairs, not in halves.
PAIRED = frozenset({"llama"})


def paired(config: Any) -> bool:
    """Whether llama.cpp keeps this base's queries and keys in neighbouring pairs."""
    return ARCHITECTURES.get(config.model_type) in PAIRED


def encode_lora(adapters: Mapping[str, LowRank], config: Any) -> bytes:
    """The adapter's file.

    Args:
        adapters: layer -> its change.
        config: the base's.

    Raises:
        SettingsError: llama.cpp has no such layer.
    """
    import gguf

    names = engine_names(list(adapters), config)
    with tempfile.TemporaryDirectory(prefix="foreword-gguf-") as folder:
        path = Path(folder) / "adapter.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 0.0)
        for layer, pair in adapters.items():
            a, b = (np.ascontiguousarray(part.detach().float().cpu().numpy()) for part in (pair.a, pair.b))
            heads = _heads(layer, config)
            b = b if heads is None else _by_heads(b, heads, interleaved)
            writer.add_tensor(f"{names[layer]}.weight.lora_a", a)
            writer.add_tensor(f"{names[layer]}.weight.lora_b", np.ascontiguousarray(b))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def decode_lora(path: Path, layers: Sequence[str], config: Any) -> dict[str, LowRank]:
    """The inverse of :func:`encode_lora`.

    Args:
        path: the adapter.
        layers: the base's linear layers.
        config: the base's.

    Raises:
        FileFormatError: no adapter, or one of another base.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
        kind, alpha = (_field(reader, key) for key in ("adapter.type", "adapter.lora.alpha"))
        tensors = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    except Exception as problem:  # a cut-off file fails in numpy, with whatever its bytes happen to mean
        raise FileFormatError(f"the file is damaged: {type(problem).__name__}", where=str(path)) from problem
    if kind != "lora":
        raise FileFormatError("this GGUF is no LoRA adapter", where=str(path), expected="lora", received=kind)
    adapters = {}
    for layer, name in _names(layers, config).items():
        a, b = (tensors.pop(f"{name}.weight.lora_{part}", None) for part in "ab")
        if a is None or b is None:
            continue
        heads = _heads(layer, config)
        b = b if heads is None else _by_heads(b, heads, halves)
        scale = float(alpha or 0) / len(a) if alpha else 1.0
        adapters[layer] = LowRank(torch.from_numpy(a), torch.from_numpy(np.ascontiguousarray(b * scale)))
    if tensors or not adapters:
        received = ", ".join(list(tensors)[:3]) or "no tensors"
        raise FileFormatError("it changes layers that this base does not have", where=str(path), received=received)
    return adapters


def engine_names(layers: Sequence[str], config: Any) -> dict[str, str]:
    """Layer -> llama.cpp's name of it."""
    names = _names(layers, config)
    missing = [layer for layer in layers if layer not in names]
    if missing:
        raise SettingsError("llama.cpp has no name for this layer", where="--to llamacpp", received=missing[0])
    return names


def _names(layers: Sequence[str], config: Any) -> dict[str, str]:
    import gguf

    architecture = ARCHITECTURES[config.model_type]
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    pairs = {layer: table.get_name(layer) for layer in layers}
    return {layer: name for layer, name in pairs.items() if name is not None}


def _heads(layer: str, config: Any) -> int | None:
    """How many heads' outputs the layer gives in the order that llama.cpp changes; None where it changes nothing."""
    if not paired(config):
        return None
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return heads.get(layer.rpartition(".")[2])


def _by_heads(b: Array, heads: int, reorder: Any) -> Array:
    """``b [out, r]`` with the outputs of each head in another order."""
    out, rank = b.shape
    ordered: Array = reorder(b.T.reshape(rank, heads, out // heads), out // heads).reshape(rank, out).T
    return ordered


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
