"""What a method is, and how a new file in this folder is found by itself.

A method is a frozen dataclass: its fields are its settings, with units in their comments. ``writer(start)`` makes the
trainable form. A Writer is an ``nn.Module`` whose ``write()`` returns a Foreword, computed anew at each call and never
kept: a value cached on a trainable module would silently lose its gradient after an evaluation.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, get_args, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.inject.sites import SiteMap, find_sites
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.plugins import registered
from foreword.settings.values import field_types, range_of


@dataclass(frozen=True)
class Start:
    """What a writer starts from.

    Args:
        model: the frozen base.
        text: the guidance text.
        ids: its tokens, as they stand in front of a row.
        foreword: another task's foreword to start from, or None.
        seed: for everything that is drawn.
        classes: C of a classification head; 0 for none.
        head: weight ``[C, E]`` and bias ``[C]`` that the head starts from; None: it is drawn.
        slots: the token that each of the template's S soft slots starts from, None for one that stands for no word.
    """

    model: PreTrainedModel
    text: str = ""
    ids: tuple[int, ...] = ()
    foreword: Foreword | None = None
    seed: int = 13
    classes: int = 0
    slots: tuple[int | None, ...] = ()
    head: tuple[Tensor, Tensor] | None = None

    @property
    def sites(self) -> SiteMap:
        """The base's sites."""
        return find_sites(self.model)

    def generator(self) -> torch.Generator:
        """A fresh generator of this start's seed; drawing never touches the global one."""
        return torch.Generator().manual_seed(self.seed)


class Writer(nn.Module, ABC):
    """The trainable form of a foreword.

    Attributes:
        layers: parameter -> the layer of the base that it works in, counted from 0 (-1: before the first), for those
            that work in one; layer-wise learning rates go by it.
        per_row: whether its rows can share a pass with other writers' (see :class:`Method`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[str, int] = {}
        self.per_row = True

    @abstractmethod
    def write(self) -> Foreword:
        """The foreword as it is now, with its graph."""


@dataclass(frozen=True)
class Method(ABC):
    """Settings that make a writer."""

    name: ClassVar[str]
    # How a sentence calls it; empty: by its name.
    title: ClassVar[str] = ""
    # AdamW's rates that the sweep tries, best guesses first; measured per method, see docs/log.md.
    learning_rates: ClassVar[tuple[float, ...]] = (5e-3, 2e-2, 5e-2)
    # What of DESIGN's families the method reaches: kinds of base.
    kinds: ClassVar[tuple[str, ...]] = ("decoder", "encoder", "encoder-decoder")
    # Whether it trains the template's soft slots: a template has some exactly when its method does.
    fills_slots: ClassVar[bool] = False
    # Whether rows with different forewords of this method can share a batch.
    per_row: ClassVar[bool] = True
    # Whether some parameters have no gradient at the very first step (behind a factor that starts at zero).
    silent_start: ClassVar[bool] = False
    # Whether its writer works in layers of the base (Writer.layers), so that layer-wise learning rates mean something.
    in_layers: ClassVar[bool] = False
    # The part of a Foreword that init=foreword takes from a file; empty: the method says itself what it misses.
    starts_from: ClassVar[str] = ""
    # For its row in docs/methods.md: "choose it when ..." and "what it cannot do", without a full stop.
    choose: ClassVar[str] = ""
    limits: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the settings against the ranges in their annotations. Raises SettingsError."""
        for name, kind in field_types(type(self)).items():
            value, bounds = getattr(self, name), range_of(kind)
            if bounds is not None and value is not None and not bounds.holds(value):
                raise SettingsError(
                    Message("method {name}: {a} cannot be {value}", name=self.name, a=name, value=value),
                    where=name,
                    expected=bounds,
                    received=value,
                )

    @abstractmethod
    def writer(self, start: Start) -> Writer:
        """A new writer; the same start gives the same initial values."""

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, for the manifest."""
        return asdict(self)


class Headed(Writer):
    """A writer with a classification head ``[C, E]`` beside it."""

    def __init__(self, inner: Writer, start: Start) -> None:
        super().__init__()
        self.inner = inner
        self.layers = {f"inner.{name}": layer for name, layer in inner.layers.items()}
        self.per_row = inner.per_row
        size = start.model.config.get_text_config().hidden_size
        if start.head is None:
            # The usual head of transformers' classifiers: N(0, 0.02) and no bias.
            self.weight = nn.Parameter(torch.randn(start.classes, size, generator=start.generator()) * 0.02)
            self.bias = nn.Parameter(torch.zeros(start.classes))
        else:
            self.weight, self.bias = trainable(start.head[0]), trainable(start.head[1])

    def write(self) -> Foreword:
        return replace(self.inner.write(), head={"weight": self.weight, "bias": self.bias})


def make_writer(method: Method, start: Start) -> Writer:
    """The method's writer, with a head where the start has classes, on the base's device.

    Everything is drawn on the CPU, so that a seed means the same start everywhere, and moved once.
    """
    writer = method.writer(start)
    made = Headed(writer, start) if start.classes else writer
    return made.to(start.model.device)


def trainable(start: Tensor) -> nn.Parameter:
    """A parameter in float32, whatever the base computes in: small steps are lost in lower precision."""
    return nn.Parameter(start.detach().clone().float())


def kept(start: Tensor) -> nn.Buffer:
    """A value that belongs to the writer and is not trained; saved with its state."""
    return nn.Buffer(start.detach().clone().float())


@cache
def registry() -> Mapping[str, type[Method]]:
    """Every method by its name: those of this folder, and those that other packages name under ``foreword.methods``.

    Raises:
        SettingsError: another package's entry point cannot be loaded, is no method, or takes a name that is taken.
    """
    return registered("foreword.methods", Method)  # type: ignore[type-abstract]


def _expected(hint: Any) -> str:
    """A field's type for people."""
    if get_args(hint):
        return " or ".join(one if isinstance(one, str) else _expected(one) for one in get_args(hint) if one is not ...)
    words = {str: "text", int: "a whole number", bool: "true or false", float: "a number", type(None): "none"}
    return words.get(hint, str(hint))


def make(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """The method called ``name`` with ``settings``; every value is checked against its field.

    Raises:
        SettingsError: no such method, no such setting, or a value of another type.
    """
    methods = registry()
    if name not in methods:
        near = difflib.get_close_matches(name, methods, 1)
        raise SettingsError(
            "there is no such method",
            where="--method",
            expected=", ".join(methods),
            received=name,
            hint=Message("did you mean {value}?", value=near[0]) if near else None,
        )
    kind = methods[name]
    hints, known = get_type_hints(kind), [f.name for f in fields(kind)]
    values = {}
    for key, value in (settings or {}).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise SettingsError(
                Message("method {name} has no setting {key!r}", name=name, key=key),
                expected=", ".join(known) or "none",
                received=key,
                hint=Message("did you mean {value}?", value=near[0]) if near else None,
            )
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as problem:
            raise SettingsError(
                Message("method {name}: {key} cannot be that", name=name, key=key),
                where=key,
                expected=_expected(hints[key]),
                received=repr(value),
            ) from problem
    return kind(**values)
