"""Which architectures llama.cpp answers as we do: tiny random GGUFs, each with a prefix, LoRA and a soft prompt.

    python bench/export_architectures.py --python ENV/bin/python [--family llama ...]

ENV has llama-cpp-python. The largest difference of the first logits is printed; weights and cache are float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.value import Foreword, KeyValue, LowRank
from foreword.export import replay
from foreword.export.llamacpp import encode_prompt
from foreword.export.llamacpp_lora import ARCHITECTURES, encode_lora, paired
from foreword.export.llamacpp_state import StateLayout, encode_state, interleaved

sys.path.insert(0, str(Path(__file__).parent / "engines"))
from tiny_gguf import write_gguf

P, ROWS = 5, [[5, 6, 7, 8], [100, 3, 50, 60, 70]]
SIZE = {
    "vocab_size": 264, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def tiny(family: str) -> Any:
    """A random model whose weights are large enough for differences to be seen."""
    own = {"qwen3": {"head_dim": 32}, "gemma": {"head_dim": 16}}.get(family, {})
    config = AutoConfig.for_model(family, **SIZE, **own)
    if hasattr(config, "sliding_window"):
        config.sliding_window = None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def values(model: Any) -> dict[str, Foreword]:
    """A random foreword of each kind; ranks 2 and 3 by turns."""
    heads, size = model.config.num_key_value_heads, getattr(model.config, "head_dim", None) or 16
    sites = {
        f"decoder.self.{layer}": KeyValue(torch.randn(P, heads, size), torch.randn(P, heads, size))
        for layer in range(model.config.num_hidden_layers)
    }
    pairs = {}
    for number, (name, layer) in enumerate(linear_layers(model).items()):
        (inner, outer), rank = sizes(layer), 2 + number % 2
        pairs[name] = LowRank(0.1 * torch.randn(rank, inner), 0.3 * torch.randn(outer, rank))
    prompt = torch.randn(P, model.config.hidden_size)
    return {"prefix": Foreword(sites=sites), "lora": Foreword(adapters=pairs), "prompt": Foreword(prompt=prompt)}


def encoded(part: str, value: Foreword, config: Any) -> bytes:
    """The engine's file."""
    if part == "lora":
        return encode_lora(value.adapters, config)
    if part == "prompt":
        assert value.prompt is not None
        return encode_prompt(value.prompt)
    cache = torch.stack([torch.stack([kv.keys, kv.values]) for kv in value.sites.values()]).numpy().copy()
    if paired(config):
        cache[:, 0] = interleaved(cache[:, 0], cache.shape[-1])
    return encode_state(cache.reshape(*cache.shape[:3], -1), [0] * P, StateLayout(3, 1, "f32"))


def difference(model: Any, part: str, value: Foreword, gguf: Path, python: str) -> float:
    """The largest difference of the logits behind each row."""
    file = gguf.parent / {"prefix": "state.bin", "lora": "lora.gguf", "prompt": "prompt.npy"}[part]
    file.write_bytes(encoded(part, value, model.config))
    job = {"gguf": str(gguf), "part": part, "file": str(file), "length": P, "rows": ROWS, "tokens": 1, "context": 128}
    job |= {"cache_type": "f32", "flash_attention": True, "logits": True}
    runner = Path(replay.__file__).parent / "engines" / "run_llamacpp.py"
    done = subprocess.run([python, str(runner)], input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    largest = 0.0
    for ids, theirs in zip(ROWS, json.loads(done.stdout)["logits"], strict=True):
        with injected(model, [value]):
            ours = model(torch.tensor([ids])).logits[0, -1]
        largest = max(largest, float((ours - torch.tensor(theirs)).abs().max()))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    parser.add_argument("--family", action="append", choices=sorted(ARCHITECTURES))
    asked = parser.parse_args()
    for family in asked.family or ARCHITECTURES:
        model = tiny(family)
        with tempfile.TemporaryDirectory() as folder:
            gguf = write_gguf(model, Path(folder) / "model.gguf")
            for part, value in values(model).items():
                print(f"{family:8} {part:6} {difference(model, part, value, gguf, asked.python):.1e}", flush=True)


if __name__ == "__main__":
    main()
