"""Full fine-tuning: the base's own weights are trained, all or some, with the prompt in front as text.

Here to be compared with, and for those who want it: the file holds every weight that was trained, four bytes each, and
rows with different forewords of this method cannot share a batch. The base in memory stays as it is: the trained
weights are a copy, which is looked up in the place of its own (core/inject/weight_overrides.py); what is not trained is
not copied.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.inject.sites import backbone, find_sites, layer_of
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.methods.base import Method, Start, Writer, trainable


class FullWriter(Writer):
    """A trainable copy of some of the base's weights, and the guidance text."""

    def __init__(self, text: str, start: dict[str, Tensor], layers: dict[str, int]) -> None:
        super().__init__()
        self.text, self.names = text, tuple(start)
        self.per_row = not start
        self.weights = nn.ParameterList(trainable(tensor) for tensor in start.values())
        self.layers = {f"weights.{i}": layers[name] for i, name in enumerate(start) if name in layers}

    def write(self) -> Foreword:
        return Foreword(self.text, weights=dict(zip(self.names, self.weights, strict=True)))


@dataclass(frozen=True)
class Full(Method):
    """The base's own weights."""

    # Which: all, top:K (the last K layers and the norm behind them), head, or a pattern of names (*.mlp.*).
    train: str = "all"
    # Where they start: at the base's values, or another foreword's.
    init: Literal["base", "foreword"] = "base"

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "full fine-tuning"
    learning_rates: ClassVar[tuple[float, ...]] = (2e-5, 5e-5, 1e-4, 1e-5)
    choose: ClassVar[str] = (
        "you want to know how far the base can go, and a copy of its weights is affordable; `top:K` and `head` "
        "train a part"
    )
    limits: ClassVar[str] = (
        "the file holds every trained weight; about five copies of them while it trains; its rows cannot share a "
        "batch with another foreword's"
    )
    per_row: ClassVar[bool] = False
    in_layers: ClassVar[bool] = True
    starts_from: ClassVar[str] = "weights"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train.startswith("top:") and not (self.train[4:].isdecimal() and int(self.train[4:])):
            raise SettingsError("no such number of layers", where="train", expected="top:1", received=self.train)

    def writer(self, start: Start) -> Writer:
        model = start.model
        known = {name: p for name, p in model.named_parameters() if "pooler" not in name.split(".")}
        if self.init == "foreword":
            if start.foreword is None or not start.foreword.weights:
                raise SettingsError(
                    "init=foreword needs a foreword with weights", where="init", hint="add `--init FILE.foreword`"
                )
            values = dict(start.foreword.weights)
        else:
            values = {name: known[name] for name in _chosen(model, self.train, list(known), start.classes > 0)}
        return FullWriter(start.text, values, _depths(model, list(known)))


def _chosen(model: PreTrainedModel, train: str, known: list[str], classified: bool) -> list[str]:
    """The names that ``train`` means, in the model's order. Raises SettingsError where there is none."""
    if train == "all":
        return known
    if train == "head":
        # With a classification head, which is trained in any case, the base has nothing to add.
        found = set() if classified else _head(model)
    elif train.startswith("top:"):
        found = _top(model, int(train[4:]))
    else:
        found = {name for name in known if fnmatch.fnmatchcase(name, train)}
    if not found and not classified:
        raise SettingsError(
            "no weight of this base is meant",
            where="train",
            expected=Message("all, top:K, head, or a pattern of names such as {value}", value=known[len(known) // 2]),
            received=train,
        )
    return [name for name in known if name in found]


def _head(model: PreTrainedModel) -> set[str]:
    """What stands behind the last hidden state; an output layer tied to the embeddings is both."""
    inside = {id(p) for p in backbone(model).parameters()}
    output = model.get_output_embeddings()
    last = set() if output is None else {id(p) for p in output.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in last or id(p) not in inside}


def _top(model: PreTrainedModel, count: int) -> set[str]:
    """The last ``count`` layers of every stack, and the norm behind them."""
    calling = set(find_sites(model).modules)
    found: set[str] = set()
    for name, stack in model.named_modules():
        for key, layers in stack.named_children():
            if not isinstance(layers, nn.ModuleList) or not all(calling & set(layer.modules()) for layer in layers):
                continue
            if count > len(layers):
                raise SettingsError(
                    "the base has fewer layers",
                    where="train",
                    expected=Message("top:{n}", n=len(layers)),
                    received=f"top:{count}",
                )
            places = [f"{key}.{i}." for i in range(len(layers) - count, len(layers))]
            places += [f"{n}." for n, child in stack.named_children() if _is_norm(n, child)]
            before = f"{name}." if name else ""
            found |= {
                before + inner for inner, _ in stack.named_parameters() if any(inner.startswith(at) for at in places)
            }
    return found


def _is_norm(name: str, module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and "emb" not in name


def _depths(model: PreTrainedModel, names: list[str]) -> dict[str, int]:
    """Which layer each weight belongs to; embeddings count as -1, and what stands behind the layers has none."""
    embedding = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    tied = {name for name, p in model.named_parameters() if id(p) in embedding}
    depths = {}
    for name in names:
        layer = layer_of(name)
        if (name in tied and layer is None) or "embeddings" in name.split("."):
            layer = -1
        if layer is not None:
            depths[name] = layer
    return depths
