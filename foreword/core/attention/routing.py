"""Which attention function a model calls: ours, while somebody needs it.

transformers' models look theirs up by the name in their configuration. Several models may share one configuration
object, so what is changed, counted and restored is the configuration and not the model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from foreword.core.attention.attend import EAGER_NAME, NAME
from foreword.core.attention.hooks import HookSet
from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import holding
from foreword.errors import UnsupportedBaseError
from foreword.messages import Message

_FIELD = "_attn_implementation_internal"


@contextmanager
def routed(model: PreTrainedModel) -> Iterator[None]:
    """Send the model's attention through :func:`foreword.core.attention.attend.attend`; the last to leave restores
    what was there before.

    Raises:
        UnsupportedBaseError: the base was loaded with a kernel whose masks are of another kind than SDPA's.
    """
    hold = HookSet()
    route(hold, model)
    with holding(hold):
        yield


def route(hold: HookSet, model: PreTrainedModel) -> None:
    """Have the model's attention go through ours while ``hold`` is entered."""
    refuse_kernel(model)
    for config in _configurations(model):
        hold.need(config, "attention", partial(_rename, config))


class _Watched(str):
    """A name that knows which modules ask whether it is SDPA's."""

    askers: list[object]

    def __eq__(self, other: object) -> bool:
        if other == "sdpa":
            self.askers.append(sys._getframe(1).f_locals.get("self"))
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[list[object]]:
    """While the model is routed, the objects whose methods ask whether attention is SDPA's, and so do something else
    under our name."""
    askers: list[object] = []
    before = [(config, getattr(config, _FIELD)) for config in _configurations(model)]
    for config, name in before:
        setattr(config, _FIELD, watching := _Watched(name))
        watching.askers = askers
    try:
        yield askers
    finally:
        for config, name in before:
            setattr(config, _FIELD, name)


def _configurations(model: PreTrainedModel) -> list[Any]:
    """Every configuration that a part of the model may read the name from, each once."""
    return fact(model, "configurations", lambda: _all_configurations(model))


def _all_configurations(model: PreTrainedModel) -> list[Any]:
    waiting = [config for part in model.modules() if (config := getattr(part, "config", None)) is not None]
    out: dict[int, Any] = {}
    while waiting:
        config = waiting.pop()
        if isinstance(config, PreTrainedConfig) and id(config) not in out:
            out[id(config)] = config
            waiting += [sub for key in config.sub_configs if (sub := getattr(config, key, None)) is not None]
    return [*out.values()]


def refuse_kernel(model: PreTrainedModel) -> None:
    """A pass of another thread may build its mask under one name and use it under the other: both kinds must agree.

    Raises:
        UnsupportedBaseError: the base was loaded with a kernel whose masks are of another kind than SDPA's.
    """
    names = {getattr(config, _FIELD) for config in _configurations(model)}
    others = sorted(name for name in names if name not in (None, "eager", "sdpa", NAME, EAGER_NAME))
    if others:
        raise UnsupportedBaseError(
            Message(
                "{name} attends with {value!r}, whose masks are of another kind",
                name=type(model).__name__,
                value=others[0],
            ),
            expected="attn_implementation 'sdpa' or 'eager'",
            received=others[0],
            hint="load it with attn_implementation='sdpa' (torch's own, which runs flash kernels where it can), or "
            "call model.set_attn_implementation('sdpa')",
        )


def _rename(config: Any) -> Callable[[], None]:
    before = getattr(config, _FIELD)
    ours = EAGER_NAME if before == "eager" else NAME
    setattr(config, _FIELD, ours)

    def restore() -> None:
        # Whoever has chosen another one meanwhile keeps it.
        if getattr(config, _FIELD) == ours:
            setattr(config, _FIELD, before)

    return restore
