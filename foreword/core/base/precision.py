"""In which number format a base runs where that is left open: the fastest one that is as good here.

What is learned, the losses and the optimizer stay in float32; the base alone may be in bfloat16, and is where one of
its layers, forward and backward, is clearly faster in it on this machine. That is measured once for a machine and a
layer's shape, in less than a second, and kept in the cache, so that all processes and later runs choose the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from foreword.core.attention.product_attention import has_fast_products, is_faster, product_attention
from foreword.core.base.architecture import Kind
from foreword.core.base.device import pick_device
from foreword.errors import ResourceError
from foreword.messages import Message
from foreword.storage import building, cache_folder

CLEARLY = 1.1
"""How many times as fast bfloat16 has to be to be chosen."""

# Narrower bases are done in no time, and the exact format is the better one for them.
_NARROW = 256
_ROWS, _TOKENS, _ROUNDS = 2, 64, 3
# Weights of the layer that is timed; of a larger one the widths are scaled down.
_MOST = 4_000_000
_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """A number format, and a sentence on why it was chosen."""

    dtype: torch.dtype
    why: Message


@dataclass(frozen=True)
class Layer:
    """The sizes of a layer: E, the MLP's width, query heads, key heads, size of a head."""

    width: int
    inner: int
    heads: int
    groups: int
    size: int

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return self.width * (2 * (self.heads + self.groups) * self.size + 3 * self.inner)

    @classmethod
    def of(cls, config: Any) -> Layer:
        """A layer of the model that ``config`` describes, not larger than can be timed."""
        text = config.get_text_config()
        width, heads = int(text.hidden_size), int(getattr(text, "num_attention_heads", 0) or 1)
        inner = int(getattr(text, "intermediate_size", 0) or getattr(text, "n_inner", 0) or 4 * width)
        groups = int(getattr(text, "num_key_value_heads", 0) or heads)
        groups = groups if heads % groups == 0 else heads
        size = int(getattr(text, "head_dim", 0) or max(1, width // heads))
        whole = cls(width, inner, heads, groups, size)
        if whole.weights <= _MOST:
            return whole
        share = (_MOST / whole.weights) ** 0.5
        groups = max(1, int(groups * share))
        return cls(int(width * share), int(inner * share), groups * (heads // whole.groups), groups, size)


def best_precision(config: Any, kind: Kind, device: torch.device) -> Precision:
    """What a base that ``config`` describes should run in on ``device``.

    Args:
        kind: which way it reads and writes.
    """
    plain = partial(Precision, torch.float32)
    width = getattr(config.get_text_config(), "hidden_size", 0)
    if not isinstance(width, int) or width < _NARROW:
        return plain(Message("the base is small"))
    if kind != "decoder":
        return plain(Message("only decoders were shown to be as good in bfloat16"))
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, Message("this device has products in bfloat16"))
        return plain(Message("this device has no products in bfloat16"))
    if device.type != "cpu" or not has_fast_products():
        return plain(Message("this device has no products in bfloat16"))
    seconds = _seconds(Layer.of(config))
    times = seconds["float32"] / seconds["bfloat16"]
    why = Message("measured here, a layer is {times:.1f} times as fast in bfloat16 as in float32", times=times)
    return Precision(torch.bfloat16 if times >= CLEARLY else torch.float32, why)


def readable(recorded: str | None, device: str = "auto") -> str:
    """The setting of ``dtype`` with which a file of that number format is used here: its own, so that its answers stay
    what they were, but float32 where this machine has no products in bfloat16.

    Args:
        recorded: None: the file does not say.
    """
    slow = recorded == "bfloat16" and pick_device(device).type == "cpu" and not has_fast_products()
    return "float32" if recorded is None or slow else recorded


def _seconds(layer: Layer) -> dict[str, float]:
    """Number format -> seconds of a pass of the layer, forward and backward; measured once for a machine, at a time at
    which nothing else kept it busy."""
    facts = [torch.__version__, _processor(), torch.get_num_threads(), vars(layer)]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder("precision", key)
    if not folder.is_dir():
        measured = layer_seconds(layer)
        if is_busy():
            return measured
        try:
            # Of processes that measure at the same time the first to finish decides for all.
            with building(folder) as partial_folder:
                (partial_folder / "seconds.json").write_text(json.dumps(measured), encoding="utf-8")
        except ResourceError:
            return measured
    try:
        seconds = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
        return {name: float(seconds[name]) for name in _FORMATS}
    except (OSError, ValueError, KeyError, TypeError):
        return layer_seconds(layer)


def is_busy() -> bool:
    """Whether other work has kept every core busy for the last minute: what is measured then says little of later."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def layer_seconds(layer: Layer, rounds: int = _ROUNDS) -> dict[str, float]:
    """Number format -> seconds of a pass of ``layer`` over frozen weights, forward and backward: the least of several,
    in turns."""
    passes = {name: _Pass(layer, dtype) for name, dtype in _FORMATS.items()}
    best = dict.fromkeys(passes, float("inf"))
    with torch.enable_grad():
        for _ in range(rounds + 1):
            for name, run in passes.items():
                began = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - began)
    return best


class _Pass:
    """The products and the attention of a layer, over numbers of no meaning."""

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        rng = torch.Generator().manual_seed(0)

        def matrix(outputs: int, inputs: int) -> Tensor:
            return torch.randn(outputs, inputs, generator=rng).mul_(inputs**-0.5).to(dtype)

        self.layer, queries, keys = layer, layer.heads * layer.size, layer.groups * layer.size
        self.x = matrix(_ROWS * _TOKENS, layer.width).requires_grad_()
        self.q, self.k, self.v = (matrix(n, layer.width) for n in (queries, keys, keys))
        self.o, self.up, self.down = (
            matrix(layer.width, queries), matrix(2 * layer.inner, layer.width), matrix(layer.width, layer.inner),
        )  # fmt: skip

    def __call__(self) -> None:
        shape = (_ROWS, _TOKENS, -1, self.layer.size)
        q, k, v = (F.linear(self.x, w).view(shape).transpose(1, 2) for w in (self.q, self.k, self.v))
        if is_faster(q, k, None):
            states = product_attention(q, k, v, None, None)
        else:
            states = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        states = F.linear(states.transpose(1, 2).reshape(_ROWS * _TOKENS, -1), self.o)
        gate, up = F.linear(states, self.up).chunk(2, -1)
        F.linear(F.silu(gate) * up, self.down).sum().backward()
        self.x.grad = None


def _processor() -> str:
    """What tells this machine's processor from others."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))][:2]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *names])
