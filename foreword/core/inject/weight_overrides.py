"""Other weights in the place of a base's own, in one thread, without touching the base.

A module looks its parameters up in a dictionary. While a foreword with weights is in force, the dictionaries of the
modules concerned answer with the foreword's tensors, in a thread where it is in force, and with the base's own in every
other. Nothing is copied or written, so there is nothing to restore: the base is bit-equal at every moment. Whoever
iterates over parameters (``state_dict``, ``model.device``) sees the base's own, always.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, partial
from typing import Any, cast

from torch import Tensor, nn

from foreword.core.attention.hooks import HookSet
from foreword.core.attention.pass_context import source_for
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.messages import Message


class _Parameters(dict[str, Any]):
    """A module's parameters as the calling thread should see them; ``names``: here -> in the whole model."""

    def __init__(self, own: Mapping[str, Any], names: Mapping[str, str], module: nn.Module) -> None:
        super().__init__(own)
        self._names, self._module = names, module

    def __getitem__(self, key: str) -> Any:
        source = source_for(self._module)
        override = None if source is None else source.weight(self._names.get(key, ""))
        return super().__getitem__(key) if override is None else override

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        """A copy of the module has the module's own, whatever is in force or attached."""
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}


def chosen(values: Iterable[Foreword]) -> Mapping[str, Tensor]:
    """The weights of the one foreword that all rows of a batch have.

    Raises:
        SettingsError: several forewords, at least one of which changes the base's weights.
    """
    found = list(values)
    if len(found) > 1 and any(value.weights for value in found):
        raise SettingsError(
            "rows with different forewords cannot share a batch when one of them changes the base's own weights",
            expected="one foreword for all rows",
            received=f"{len(found)} forewords, or rows without one",
            hint="ask them one after another, or train it as LoRA, whose rows can share a batch",
        )
    return found[0].weights if found else {}


def owners(model: nn.Module, names: Collection[str]) -> dict[nn.Module, dict[str, str]]:
    """The modules that hold one of the named parameters: module -> its names -> the names in the whole model.

    Tied weights have several owners and one name, their first.
    """
    wanted = set(names)
    if not wanted:
        return {}
    first = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for module in model.modules():
        own = {key: first[parameter] for key, parameter in module._parameters.items() if parameter is not None}
        if wanted & set(own.values()):
            found[module] = own
    return found


def fitted(model: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights, each on its parameter's device and in its number format.

    Raises:
        SettingsError: a name or shape that the model does not have.
    """
    if not weights:
        return {}
    known = dict(model.named_parameters())
    for name, tensor in weights.items():
        if name not in known:
            raise SettingsError(
                "the foreword has a weight that this model does not have",
                expected=f"{next(iter(known))} .. {next(reversed(known))}",
                received=name,
            )
        if tensor.shape != known[name].shape:
            raise SettingsError(
                Message("{name} has another shape", name=name),
                expected=tuple(known[name].shape),
                received=tuple(tensor.shape),
            )
    return {name: tensor.to(known[name]) for name, tensor in weights.items()}


def hook(hold: HookSet, module: nn.Module, names: Mapping[str, str]) -> None:
    """Let ``module`` find the weights of the source in force, while ``hold`` is entered."""
    hold.need(module, "weights", partial(_put_on, module, names))


def _put_on(module: nn.Module, names: Mapping[str, str]) -> Callable[[], None]:
    own, kind = module._parameters, cast(Any, type(module))
    module.__dict__["_parameters"] = _Parameters(own, names, module)
    if isinstance(module, nn.RNNBase):
        module.__class__ = _looking(kind)

    def restore() -> None:
        module.__dict__["_parameters"] = own
        module.__class__ = kind

    return restore


@cache
def _looking(kind: Any) -> Any:
    """A recurrent layer that looks its weights up; torch's keeps a list of them, which all threads would share."""

    def flat_weights(self: Any) -> list[Any]:
        return [getattr(self, name) for name in self._flat_weights_names]

    members = {"_flat_weights": property(flat_weights), "_update_flat_weights": lambda self: None}
    return type(kind.__name__, (kind,), members)
