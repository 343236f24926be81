"""What an injection changes of the model's own layers: low-rank changes, row by row, and other weights for all rows."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.hooks import Hold
from foreword.core.inject import lora_deltas, weight_overrides
from foreword.core.inject.value import Foreword


class Changes:
    """The changes in force on ``model``; ``probe`` is the module by which a layer asks what is in force."""

    def __init__(self, model: PreTrainedModel, probe: nn.Module) -> None:
        self._model, self._probe = model, probe
        self._banks: Mapping[nn.Module, lora_deltas.Bank] = {}
        self._weights: Mapping[str, Tensor] = {}
        self._index: Tensor | None = None
        self._hold = Hold()
        weakref.finalize(self, self._hold.release)

    def put(self, values: Sequence[Foreword], rows: Sequence[int] | None) -> None:
        """Put the changes of ``values`` in force; ``rows`` is each row's value, None the only one for every row.

        Raises:
            SettingsError: a layer, weight or shape that the model does not have, or other weights for some rows only.
        """
        used = [*range(len(values))] if rows is None else sorted(set(rows))
        chosen = [values[i] for i in used]
        weights = weight_overrides.fitted(self._model, weight_overrides.chosen(chosen))
        self._banks, self._weights, self._index = lora_deltas.banks(self._model, chosen), weights, None
        if rows is not None and len(used) > 1:
            self._index = torch.tensor([used.index(row) for row in rows], device=self._model.device)
        for layer in self._banks:
            self._hold.need(layer, "adapter", partial(lora_deltas.put_on, layer, self._probe))
        for module, names in weight_overrides.owners(self._model, weights).items():
            self._hold.need(module, "weights", partial(weight_overrides.put_on, module, names, self._probe))

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to the output of a linear layer for its input ``x [B, T, in]``; None for nothing."""
        bank = self._banks.get(layer)
        return None if bank is None else bank.added(x, self._index)

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        return self._weights.get(name)

    def release(self) -> None:
        """Take everything off the model that :meth:`put` needed there."""
        self._hold.release()
