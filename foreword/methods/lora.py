"""LoRA: a change of rank r beside each linear layer (Hu et al. 2021), with the prompt in front as text.

Ours differs from PEFT's in three ways: there is no dropout, because the frozen base runs in eval mode; the scale
alpha / r is part of what is saved; and rows with different changes can share a batch. With one foreword for all rows
the outputs are the same, and files go both ways (docs/file-format.md).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import layer_of
from foreword.core.inject.value import Foreword, LowRank
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.messages import Message
from foreword.methods.base import Method, Start, Writer, trainable
from foreword.settings.schema import Count, Positive


class LoraWriter(Writer):
    """Two factors for each layer, and the guidance text."""

    def __init__(self, text: str, start: dict[str, LowRank], scale: float) -> None:
        super().__init__()
        self.text, self.names, self.scale = text, tuple(start), scale
        self.a = nn.ParameterList(trainable(pair.a) for pair in start.values())
        self.b = nn.ParameterList(trainable(pair.b) for pair in start.values())
        depths = {i: layer for i, name in enumerate(start) if (layer := layer_of(name)) is not None}
        self.layers = {f"{part}.{i}": layer for part in "ab" for i, layer in depths.items()}

    def write(self) -> Foreword:
        pairs = zip(self.names, self.a, self.b, strict=True)
        return Foreword(self.text, adapters={name: LowRank(a, b * self.scale) for name, a, b in pairs})


@dataclass(frozen=True)
class Lora(Method):
    """Low-rank changes of linear layers; the base stays shared and frozen."""

    # Rank of each change; init=foreword has that of the file.
    r: Count = 8
    # The changes are scaled by lora_alpha / r, so that the learning rate need not move with r.
    lora_alpha: Positive = 16.0
    # Layers that are changed: all linear ones but the output layer; ends of names (q_proj) or patterns of whole names.
    target_modules: str | tuple[str, ...] = "all-linear"
    # Where the factors start: a drawn A and B = 0, which changes nothing, or another foreword's.
    init: Literal["zero", "foreword"] = "zero"

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    learning_rates: ClassVar[tuple[float, ...]] = (1e-3, 3e-4, 3e-3, 1e-4)
    choose: ClassVar[str] = (
        "the task needs other weights and not only something to read, or other tools shall open the file (PEFT)"
    )
    limits: ClassVar[str] = (
        "more values and a larger file; every changed layer computes more in each pass; the guidance is read as "
        "text; needs linear layers, which an LSTM or GRU has not"
    )
    silent_start: ClassVar[bool] = True
    in_layers: ClassVar[bool] = True
    starts_from: ClassVar[str] = "adapters"

    def writer(self, start: Start) -> Writer:
        scale = self.lora_alpha / self.r
        if self.init == "foreword":
            return LoraWriter(start.text, _from_foreword(start, scale), scale)
        layers, generator = linear_layers(start.model), start.generator()
        if not layers:
            raise UnsupportedBaseError(
                Message(
                    "{name} has no linear layers beside which a change could stand", name=type(start.model).__name__
                ),
                hint="use `--method prefix`, or `--method full` for its own weights",
            )
        pairs = {}
        for name in _chosen(layers, self.target_modules):
            inner, outer = sizes(layers[name])
            # Kaiming's uniform with a = sqrt(5), as in PEFT and in the paper's own code.
            bound = inner**-0.5
            a = torch.empty(self.r, inner).uniform_(-bound, bound, generator=generator)
            pairs[name] = LowRank(a, torch.zeros(outer, self.r))
        return LoraWriter(start.text, pairs, scale)


def _from_foreword(start: Start, scale: float) -> dict[str, LowRank]:
    if start.foreword is None or not start.foreword.adapters:
        raise SettingsError(
            "init=foreword needs a foreword with low-rank changes", where="init", hint="add `--init FILE.foreword`"
        )
    return {name: LowRank(pair.a, pair.b / scale) for name, pair in start.foreword.adapters.items()}


def _chosen(names: Iterable[str], targets: str | tuple[str, ...]) -> list[str]:
    """The layers that ``targets`` mean, in the order of the model. Raises SettingsError for a target without one."""
    known = list(names)
    if targets == "all-linear":
        return known
    wanted = targets.split(",") if isinstance(targets, str) else targets
    found: set[str] = set()
    for target in wanted:
        fits = [n for n in known if n == target or n.endswith(f".{target}") or fnmatch.fnmatchcase(n, target)]
        if not fits:
            raise SettingsError(
                "no linear layer of this base is called that",
                where="target_modules",
                expected="all-linear, " + ", ".join(dict.fromkeys(n.rpartition(".")[2] for n in known)),
                received=target,
            )
        found.update(fits)
    return [name for name in known if name in found]
