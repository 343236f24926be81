"""Prefix tuning: keys and values at every attention site (Li & Liang 2021), started from a real text's.

Ours differs from the paper in four ways, each measured in docs/log.md: the start is what the base itself computes for
the user's prompt, so step 0 is that prompt; the first position, where models park attention that they do not need,
stays as it is; the keys and values are trained directly, the paper's MLP being an option; and a change is measured in
the size of the site's own keys or values, so that one learning rate fits every layer.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from foreword.core.inject import initial_values
from foreword.core.inject.sites import layer_of
from foreword.core.inject.value import Foreword, KeyValue
from foreword.errors import SettingsError
from foreword.methods.base import Method, Start, Writer, kept, trainable
from foreword.settings.schema import Count


class _Row(nn.Module):
    """One site's keys or values ``[P, H, D]``: the first ``frozen`` positions stay, the others are
    ``start + scale * change``, of which the change is trained.

    Args:
        scale: what a change of 1 is at this site, broadcast over ``[P, H, D]``: steps are then of one relative size
            everywhere, where keys and values of different layers differ by a factor of 40.
    """

    def __init__(self, start: Tensor, frozen: int, scale: Tensor) -> None:
        super().__init__()
        self.head, self.start, self.scale = kept(start[:frozen]), kept(start[frozen:]), kept(scale)
        self.change = trainable(torch.zeros_like(start[frozen:]))

    def forward(self) -> Tensor:
        rest = torch.addcmul(self.start, self.scale, self.change)
        return torch.cat([self.head, rest]) if len(self.head) else rest


class _Fixed(nn.Module):
    """One site's keys or values that are not trained (a layer that was not chosen)."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.value = kept(start)

    def forward(self) -> Tensor:
        return self.value


class PrefixWriter(Writer):
    """Keys and values per site."""

    def __init__(self, start: dict[str, KeyValue], trained: set[str], frozen: int, scale: str = "none") -> None:
        super().__init__()
        self.names = tuple(start)

        def part(name: str, value: Tensor) -> nn.Module:
            return _Row(value, frozen, _scale(value[frozen:], scale)) if name in trained else _Fixed(value)

        self.keys = nn.ModuleList(part(name, kv.keys) for name, kv in start.items())
        self.values = nn.ModuleList(part(name, kv.values) for name, kv in start.items())
        depths = {i: depth for i, name in enumerate(start) if (depth := layer_of(name)) is not None}
        self.layers = {f"{kind}.{i}.change": depth for kind in ("keys", "values") for i, depth in depths.items()}

    def write(self) -> Foreword:
        return Foreword(
            sites={name: KeyValue(k(), v()) for name, k, v in zip(self.names, self.keys, self.values, strict=True)}
        )


class ReparameterisedWriter(Writer):
    """The paper's MLP (its section 4.3): start + f(z) - f0(z0), which is the start itself at step 0.

    Subtracting the MLP's first output keeps the start without silencing any gradient, as a zero last layer would.
    """

    def __init__(self, inner: PrefixWriter, length: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        for parameter in inner.parameters():
            parameter.requires_grad_(False)
        rows = list(inner.parameters())
        self.length = length - next(len(m.head) for m in inner.keys if isinstance(m, _Row))
        self.sizes = [p[0].numel() for p in rows]
        self.code = nn.Parameter(torch.randn(self.length, hidden, generator=generator))
        self.into = nn.Parameter(torch.randn(hidden, hidden, generator=generator) / hidden**0.5)
        self.out = nn.Parameter(torch.randn(hidden, sum(self.sizes), generator=generator) * 0.02 / hidden**0.5)
        with torch.no_grad():
            self.first = kept(self._mlp())

    def _mlp(self) -> Tensor:
        return torch.tanh(self.code @ self.into) @ self.out

    def write(self) -> Foreword:
        change = iter((self._mlp() - self.first).split(self.sizes, -1))
        sites = {}
        moved: list[list[Tensor]] = []
        for group in (self.inner.keys, self.inner.values):
            out = []
            for module in group:
                value = module()
                if isinstance(module, _Row):
                    step = next(change).view(-1, *value.shape[1:])
                    value = torch.cat([module.head, torch.addcmul(module.start, module.scale, step)])
                out.append(value)
            moved.append(out)
        for name, k, v in zip(self.inner.names, *moved, strict=True):
            sites[name] = KeyValue(k, v)
        return Foreword(sites=sites)


@dataclass(frozen=True)
class Prefix(Method):
    """Keys and values in front at the attention sites."""

    # Virtual tokens P; None: as many as the text has (20 where there is none).
    num_virtual_tokens: Count | None = None
    # Where the values start: the guidance text's own, another foreword's, or N(0, 0.02^2).
    init: Literal["text", "foreword", "random"] = "text"
    # Whether the first position, where attention sinks, keeps its values; None: when the start is a text or a foreword.
    freeze_first: bool | None = None
    # Layers that are trained, as a slice ("15:", ":4", "2:10"); the others keep the text's values, or have none.
    layers: str = ":"
    # Sites that are used, as a pattern ("decoder.self.*").
    sites: str = "*"
    # What a learned change is measured in: the root mean square of the site's start (keys and values apart), of each
    # head's, or nothing.
    scale: Literal["site", "head", "none"] = "site"
    # The paper's MLP, dropped once written.
    reparameterise: bool = False
    # Width of that MLP.
    hidden_size: Count = 128

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "prefix tuning"
    learning_rates: ClassVar[tuple[float, ...]] = (5e-2, 2e-2, 1e-1)
    in_layers: ClassVar[bool] = True
    starts_from: ClassVar[str] = "sites"
    choose: ClassVar[str] = (
        "in doubt: it begins as your prompt, its file is small, and every layer reads what was learned"
    )
    limits: ClassVar[str] = (
        "adds to what the content's tokens read and cannot change how they attend to each other; in encoders its "
        "start is near the prompt and not equal to it; a recurrent base takes one state"
    )

    def writer(self, start: Start) -> Writer:
        known = start.sites.sites
        used = [name for name in known if fnmatch.fnmatch(name, self.sites)]
        if not used:
            raise SettingsError(
                "no site of this base matches", where="sites", expected=", ".join(known), received=self.sites
            )
        trained = {
            name for name in used if known[name].layer in _slice(self.layers, max(known[n].layer for n in used) + 1)
        }
        if not trained:
            raise SettingsError("no layer of this base is in that slice", where="layers", received=self.layers)
        values = self._start(start, used)
        if self.init == "random":
            values = {name: kv for name, kv in values.items() if name in trained}
        # A recurrent state is no place where attention could sink.
        sink = self.init != "random" and not start.sites.stateful
        frozen = int(self.freeze_first if self.freeze_first is not None else sink)
        length = next(iter(values.values())).keys.shape[0]
        if frozen >= length:
            raise SettingsError(
                "nothing is left to train: the only virtual token is frozen",
                where="num_virtual_tokens",
                expected="2 or more",
                received=length,
                hint="give a longer prompt or set freeze_first=false",
            )
        writer = PrefixWriter(values, trained, frozen, "none" if self.init == "random" else self.scale)
        if not self.reparameterise:
            return writer
        return ReparameterisedWriter(writer, length, self.hidden_size, start.generator())

    def _start(self, start: Start, used: list[str]) -> dict[str, KeyValue]:
        if start.sites.stateful and self.num_virtual_tokens not in (None, 1):
            raise SettingsError(
                "this base takes one state in front, however long the text was",
                where="num_virtual_tokens",
                expected=1,
                received=self.num_virtual_tokens,
                hint="leave it out, or use `--method prompt` for several virtual tokens",
            )
        if self.init == "foreword":
            return _from_foreword(start, used)
        if self.init == "random" or not start.ids:
            sites = {name: start.sites.sites[name] for name in used}
            length = 1 if start.sites.stateful else self.num_virtual_tokens or 20
            return initial_values.random(sites, length, 0.02, start.generator())
        wanted = None if start.sites.stateful else self.num_virtual_tokens
        values = initial_values.from_ids(start.model, initial_values.fit_length(start.ids, wanted))
        if start.sites.kind == "encoder-decoder":
            alike = {name: values[name] for name in used if name.startswith("decoder.self")}
            values |= initial_values.told_apart(alike, 0.02, start.generator())
        return {name: values[name] for name in used}


def _scale(start: Tensor, by: str) -> Tensor:
    """The root mean square of ``start`` ``[P, H, D]``, over all of it or by head ``[1, H, 1]``."""
    if by == "none":
        return torch.ones(())
    square = start.float().square()
    return (square.mean() if by == "site" else square.mean((0, 2), keepdim=True)).sqrt()


def _from_foreword(start: Start, used: list[str]) -> dict[str, KeyValue]:
    if start.foreword is None:
        raise SettingsError("init=foreword needs a file to start from", where="init", hint="add `--init FILE.foreword`")
    missing = [name for name in used if name not in start.foreword.sites]
    if missing:
        raise SettingsError(
            "the foreword to start from has nothing at some sites",
            where="init",
            expected=used[0],
            received=f"nothing at {missing[0]}",
        )
    return {name: start.foreword.sites[name] for name in used}


def _slice(text: str, length: int) -> range:
    """``"15:"`` as the layers it means; raises SettingsError for anything that is not a slice of numbers."""
    try:
        first, last = text.split(":")
        return range(length)[slice(int(first) if first else None, int(last) if last else None)]
    except ValueError:
        raise SettingsError(
            "layers are given as a slice", where="layers", expected='"15:", ":4" or "2:10"', received=text
        ) from None
