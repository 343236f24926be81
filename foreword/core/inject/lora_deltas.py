"""Low-rank changes of linear layers, each row with its own: LoRA (Hu et al. 2021) without touching a layer.

A hook adds ``b (a x)`` to what the layer gives. Which foreword a row has is known to the injection in force, so rows
with different changes, and with none, share one pass of the layer itself. PEFT replaces the layers and has one adapter
for all rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from foreword.core.attention.hooks import Forward, HookSet, Level
from foreword.core.attention.model_state import fact
from foreword.core.attention.pass_context import current, source_for
from foreword.core.inject.linear_probe import linear_over_rows
from foreword.core.inject.sites import backbone
from foreword.core.inject.value import Foreword, LowRank
from foreword.errors import SettingsError
from foreword.messages import Message


@dataclass(frozen=True)
class Bank:
    """All forewords' changes of one layer: ``a [F, r, in]``, ``b [F, out, r]``; shorter ranks are filled with zeros."""

    a: Tensor
    b: Tensor

    def added(self, x: Tensor, index: Tensor | None) -> Tensor:
        """What is added to the layer's output for its input ``x [..., in]``.

        Args:
            x: the rows, ``[B, T, in]``; or a multiple of B, or tokens without rows ``[B * T, in]``, row by row; or
                the N tokens of rows that are packed.
            index: each row's foreword ``[B]``; None where all have the first.

        Raises:
            SettingsError: the batch has another number of rows.
        """
        if index is None:
            return linear(linear(x, self.a[0]), self.b[0])
        packed = current().packed
        if packed is not None:
            return packed.row_by_row(x, lambda rows: self._of_rows(rows, index))
        return self._of_rows(x, index)

    def _of_rows(self, x: Tensor, index: Tensor) -> Tensor:
        """``[..., out]`` of ``[..., in]``, whose first dimension is that of the rows, or a multiple."""
        if x.shape[0] % len(index):
            expected = Message("{n}, or a multiple", n=len(index))
            raise SettingsError("the batch has another number of rows", expected=expected, received=x.shape[0])
        # What belongs to one row of the injection stands together: its tokens, its beams, its pairs with choices.
        rows = x.reshape(len(index), -1, x.shape[-1])
        low = torch.bmm(rows, self.a[index].transpose(1, 2))
        return torch.bmm(low, self.b[index].transpose(1, 2)).view(*x.shape[:-1], -1)


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers that can be changed, by name: those in front of the last hidden state that give W x + b for
    each row's own tokens, as a probe of two rows shows once.

    Not the output layer, which is asked only where there is a label and does not see rows; nor a pooler, whose output
    nobody reads.
    """
    names = fact(model, "linear layers", lambda: linear_over_rows(model, _candidates(model)))
    return {name: model.get_submodule(name) for name in names}


def _candidates(model: PreTrainedModel) -> dict[str, nn.Module]:
    inside, output = set(backbone(model).modules()), model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and module in inside
        and module is not output
        and "pooler" not in name.split(".")
    }


def sizes(layer: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    first, second = weight.shape
    return (first, second) if isinstance(layer, Conv1D) else (second, first)


def banks(model: PreTrainedModel, values: Sequence[Foreword]) -> dict[nn.Module, Bank]:
    """Every layer that one of ``values`` changes.

    Raises:
        SettingsError: the model has no such layer, or one of another size.
    """
    names = dict.fromkeys(name for value in values for name in value.adapters)
    if not names:
        return {}
    layers = linear_layers(model)
    return {_layer(layers, name): _bank(layers[name], name, values) for name in names}


def _layer(layers: Mapping[str, nn.Module], name: str) -> nn.Module:
    if name not in layers:
        raise SettingsError(
            "the foreword changes a layer that this model does not have, or that cannot be changed",
            expected=" .. ".join([*layers][:: max(1, len(layers) - 1)]),
            received=name,
        )
    return layers[name]


def _bank(layer: nn.Module, name: str, values: Sequence[Foreword]) -> Bank:
    inner, outer = sizes(layer)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    # A layer may compute in another format than its model (T5's wo).
    here = [_on(value.adapters.get(name), weight) for value in values]
    for pair in here:
        if pair is not None and (pair.a.shape[1], pair.b.shape[0]) != (inner, outer):
            got = (pair.a.shape[1], pair.b.shape[0])
            raise SettingsError(
                Message("{name} has another size", name=name), expected=f"{inner} -> {outer}", received=got
            )
    found = next(pair for pair in here if pair is not None)
    none = LowRank(found.a.new_zeros(0, inner), found.b.new_zeros(outer, 0))
    pairs = [none if pair is None else pair for pair in here]
    rank = max(pair.a.shape[0] for pair in pairs)
    return Bank(
        torch.stack([pad(pair.a, (0, 0, 0, rank - pair.a.shape[0])) for pair in pairs]),
        torch.stack([pad(pair.b, (0, rank - pair.b.shape[1])) for pair in pairs]),
    )


def _on(pair: LowRank | None, weight: Tensor) -> LowRank | None:
    # A quantized weight is no format to compute in.
    like = weight if weight.dtype.is_floating_point else weight.device
    return None if pair is None else LowRank(pair.a.to(like), pair.b.to(like))


def hook(hold: HookSet, layer: nn.Module) -> None:
    """Let ``layer`` add what the source in force has for it, while ``hold`` is entered."""

    def adding(forward: Forward) -> Forward:
        def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            output: Tensor = forward(x, *args, **kwargs)
            source = source_for(layer)
            change = None if source is None else source.added(layer, x)
            return output if change is None else output + change

        return run

    hold.wrap(layer, Level.LORA, adding)
