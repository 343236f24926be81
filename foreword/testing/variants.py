"""What may have happened to a base before a foreword meets it: compiled, a static cache, short numbers, attached,
moved, an exception. Every contract holds on each.

    from foreword.testing import VARIANTS, check_method
    check_method("prefix", ("llama",), VARIANTS["bfloat16"])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.methods.base import Start, make, make_writer
from foreword.testing.families import tiny
from foreword.training.attach import attach

Change = Callable[[PreTrainedModel], PreTrainedModel]
_TEXT = (5, 6, 7, 8)


@dataclass(frozen=True)
class Variant:
    """A tiny base to which something has happened.

    Args:
        name: what.
        change: makes it happen; returns the base.
        tolerance: what two outputs may differ by where a contract allows less; relative to the largest above 1.
        left: whether nothing of it stands on the base any more.
    """

    name: str
    change: Change
    tolerance: float = 0.0
    left: bool = True

    def tiny(self, family: str, seed: int = 0) -> PreTrainedModel:
        """A :func:`~foreword.testing.families.tiny` model of the family, changed."""
        return self.change(tiny(family, seed))

    def close(self, got: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
        """Equal within the larger tolerance, relative to the largest expected value where that is above 1."""
        got, expected = got.float(), expected.float()
        difference = (got - expected).abs().max().item() / max(1.0, expected.abs().max().item())
        allowed = max(tolerance, self.tolerance)
        assert difference <= allowed, f"{what}, {self.name}: differs by {difference:.1e}, allowed {allowed:.0e}"


def _compiled(model: PreTrainedModel) -> PreTrainedModel:
    # What was compiled for other instances of the class is of no use to this one, and torch stops after some.
    torch._dynamo.reset()
    model.compile(backend="eager")
    return model


def _static(model: PreTrainedModel) -> PreTrainedModel:
    if model.generation_config is not None:
        model.generation_config.cache_implementation = "static"
    return model


def _attached_twice(model: PreTrainedModel) -> PreTrainedModel:
    # Whoever drops an attached model takes it off: both stay with the base.
    vars(model)["_attached"] = _Kept([_attach(model, method) for method in ("lora", "prefix")])
    return model


class _Kept(list[PreTrainedModel]):
    """What stays with a base, and not with a copy of it."""

    def __deepcopy__(self, memo: dict[int, object]) -> _Kept:
        return _Kept()


def _attached_and_detached(model: PreTrainedModel) -> PreTrainedModel:
    first, second = (_attach(model, method) for method in ("prefix", "lora"))
    first.detach()  # type: ignore[operator]
    base: PreTrainedModel = second.detach()  # type: ignore[operator]
    return base


def _attached_and_moved(model: PreTrainedModel) -> PreTrainedModel:
    attached = _attach(model, "prefix")
    for dtype in (torch.float64, torch.float32):
        attached.to(dtype)  # type: ignore[arg-type]
    base: PreTrainedModel = attached.detach()  # type: ignore[operator]
    return base


def _attach(model: PreTrainedModel, method: str) -> PreTrainedModel:
    return attach(model, make_writer(make(method), Start(model, "guidance", _TEXT)))


def _after_an_exception(model: PreTrainedModel) -> PreTrainedModel:
    for method in ("prefix", "lora"):
        value = make_writer(make(method), Start(model, "guidance", _TEXT)).write()
        try:
            with injected(model, [value]):
                model(input_ids=torch.tensor([[10**6]]))
        except IndexError:
            continue
        raise AssertionError("an id outside of the vocabulary passed")
    return model


class Contract(Protocol):
    """What a method keeps on a family, on every variant of it; an AssertionError says what it does not."""

    def __call__(self, method: str, family: str, on: Variant = ...) -> None: ...


PLAIN = Variant("as it is", lambda model: model)

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("compiled", _compiled, left=False),
        Variant("static cache", _static),
        # Up to what three digits leave; a row of another foreword is off by far more.
        Variant("bfloat16", lambda model: model.to(torch.bfloat16), tolerance=0.08),  # type: ignore[arg-type]
        Variant("attached twice", _attached_twice, left=False),
        Variant("attached and detached", _attached_and_detached),
        Variant("attached, then moved", _attached_and_moved),
        Variant("after an exception", _after_an_exception),
    )
}
