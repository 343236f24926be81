"""The foreword itself: an immutable value that can stand in front of a row.

Letters used throughout: B rows, T tokens, P virtual tokens, L layers, H key/value heads, D head size,
E embedding size, V vocabulary, C classes; r rank, in and out the sizes of a linear layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValue:
    """What one attention site is given: keys ``[P, H, Dk]`` and values ``[P, H, Dv]``.

    Keys are canonical, as in a cache: rotated for positions 0..P-1 where the base rotates keys.
    """

    keys: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        k, v = self.keys.shape, self.values.shape
        if len(k) != 3 or len(v) != 3 or k[:2] != v[:2]:
            raise ValueError(f"keys {tuple(k)} and values {tuple(v)} must be [P, H, Dk] and [P, H, Dv]")


@dataclass(frozen=True)
class LowRank:
    """What one linear layer is given: ``a [r, in]`` and ``b [out, r]``; its output becomes ``W x + b (a x)``.

    A scale (LoRA's alpha / r) is part of ``b``.
    """

    a: Tensor
    b: Tensor

    def __post_init__(self) -> None:
        a, b = self.a.shape, self.b.shape
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise ValueError(f"a {tuple(a)} and b {tuple(b)} must be [r, in] and [out, r]")


def _immutable(mapping: Mapping[str, object]) -> MappingProxyType[str, object]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True, repr=False)
class Foreword:
    """Guidance text, a soft prompt, keys and values per site, a head, soft slots, changed weights; each may be absent.

    Args:
        text: guidance that is put in front of the row's own tokens as tokens (a text prompt).
        prompt: a soft prompt ``[P, E]``, put in at the embedding.
        sites: site name -> :class:`KeyValue`; every entry has the same P.
        head: ``weight [C, E]`` and ``bias [C]`` of a classification head, on the pooled last hidden state.
        slots: soft tokens ``[S, E]`` that stand inside a row, where its ids hold ``-1 - i`` for slot i.
        adapters: name of a linear layer -> :class:`LowRank`, added to what the layer gives.
        weights: name of a parameter of the base -> the tensor that stands in its place.

    >>> import torch
    >>> from foreword import Foreword
    >>> value = Foreword(prompt=torch.zeros(8, 16))
    >>> value.num_virtual_tokens, value.num_values
    (8, 128)
    """

    text: str = ""
    prompt: Tensor | None = None
    sites: Mapping[str, KeyValue] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    slots: Tensor | None = None
    adapters: Mapping[str, LowRank] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", _immutable(self.sites))
        object.__setattr__(self, "head", _immutable(self.head))
        object.__setattr__(self, "adapters", _immutable(self.adapters))
        object.__setattr__(self, "weights", _immutable(self.weights))
        if self.prompt is not None and self.prompt.ndim != 2:
            raise ValueError(f"a soft prompt is [P, E], not {tuple(self.prompt.shape)}")
        if self.slots is not None and self.slots.ndim != 2:
            raise ValueError(f"soft slots are [S, E], not {tuple(self.slots.shape)}")
        if self.prompt is not None and self.sites:
            raise ValueError("a foreword has a soft prompt or keys and values, not both")
        if self.prompt is not None and (self.adapters or self.weights):
            raise ValueError("a foreword has a soft prompt or changed weights, not both")
        lengths = {kv.keys.shape[0] for kv in self.sites.values()}
        if len(lengths) > 1:
            raise ValueError(f"every site has the same number of virtual tokens, not {sorted(lengths)}")

    def __repr__(self) -> str:
        counts = {
            "virtual tokens": self.num_virtual_tokens,
            "sites": len(self.sites),
            "classes": len(self.head.get("bias", ())),
            "slots": 0 if self.slots is None else self.slots.shape[0],
            "low-rank changes": len(self.adapters),
            "weights": len(self.weights),
            "values": self.num_values,
        }
        parts = [f"{count:,} {name}" for name, count in counts.items() if count]
        if self.text:
            parts.insert(0, repr(self.text if len(self.text) <= 40 else self.text[:37] + "..."))
        return f"Foreword({', '.join(parts)})"

    @property
    def num_virtual_tokens(self) -> int:
        """P: how many positions the content moves back by; 0 for a text, for slots or for nothing."""
        if self.prompt is not None:
            return self.prompt.shape[0]
        return next((kv.keys.shape[0] for kv in self.sites.values()), 0)

    @property
    def num_values(self) -> int:
        """How many numbers the foreword holds."""
        return sum(t.numel() for t in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under its name in the file: ``prompt``, ``keys/SITE``, ``values/SITE``, ``head/NAME``,
        ``slots``, ``lora_a/LAYER``, ``lora_b/LAYER``, ``weights/PARAMETER``."""
        return dict(self._tensors())

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        if self.prompt is not None:
            yield "prompt", self.prompt
        for site, kv in self.sites.items():
            yield f"keys/{site}", kv.keys
            yield f"values/{site}", kv.values
        for name, tensor in self.head.items():
            yield f"head/{name}", tensor
        if self.slots is not None:
            yield "slots", self.slots
        for name, pair in self.adapters.items():
            yield f"lora_a/{name}", pair.a
            yield f"lora_b/{name}", pair.b
        for name, tensor in self.weights.items():
            yield f"weights/{name}", tensor

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], text: str = "") -> Foreword:
        """The inverse of :meth:`tensors`. Raises ValueError for a name or a shape that does not fit."""
        prompt = slots = None
        parts: dict[str, dict[str, Tensor]] = {
            room: {} for room in ("keys", "values", "head", "lora_a", "lora_b", "weights")
        }
        for name, tensor in tensors.items():
            room, _, rest = name.partition("/")
            if name == "prompt":
                prompt = tensor
            elif name == "slots":
                slots = tensor
            elif room in parts and rest:
                parts[room][rest] = tensor
            else:
                raise ValueError(f"no part of a foreword is called {name!r}")
        for one, other, what in (("keys", "values", "sites"), ("lora_a", "lora_b", "layers")):
            if parts[one].keys() != parts[other].keys():
                odd = sorted(parts[one].keys() ^ parts[other].keys())
                raise ValueError(f"{one} and {other} are for different {what}: {odd}")
        sites = {name: KeyValue(keys, parts["values"][name]) for name, keys in parts["keys"].items()}
        adapters = {name: LowRank(a, parts["lora_b"][name]) for name, a in parts["lora_a"].items()}
        return cls(text, prompt, sites, parts["head"], slots, adapters, parts["weights"])

    def detach(self) -> Foreword:
        """The frozen form: contiguous copies without a graph."""
        parts = {name: tensor.detach().clone().contiguous() for name, tensor in self._tensors()}
        return Foreword.from_tensors(parts, self.text)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Foreword:
        """The same foreword on another device or in another precision."""
        parts = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self._tensors()}
        return Foreword.from_tensors(parts, self.text)

    def digest(self) -> str:
        """SHA-256 over text, names, shapes, types and bytes: equal digests mean bit-equal forewords."""
        h = hashlib.sha256(self.text.encode())
        for name, tensor in sorted(self._tensors()):
            t = tensor.detach().cpu().contiguous()
            h.update(f"|{name}|{tuple(t.shape)}|{t.dtype}|".encode())
            h.update(t.flatten().view(torch.uint8).numpy().data)  # not a copy: weights are large
        return h.hexdigest()


EMPTY = Foreword()


def equal(a: Foreword, b: Foreword) -> bool:
    """Bit-equality of two forewords."""
    return a.digest() == b.digest()
