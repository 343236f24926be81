"""What an injection changes of the model's own layers: low-rank changes, row by row, and other weights for all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention.hooks import HookSet
from foreword.core.base.device import tensor_on
from foreword.core.inject import lora_deltas, weight_overrides
from foreword.core.inject.value import Foreword


@dataclass(frozen=True)
class BaseChanges:
    """The changes in force: of linear layers, each row's own, and of weights.

    Args:
        index: each row's place among the changes ``[B]``; None where all rows have the first.
    """

    banks: Mapping[nn.Module, lora_deltas.Bank] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to the output of a linear layer for its input ``x [B, T, in]``; None for nothing."""
        bank = self.banks.get(layer)
        return None if bank is None else bank.added(x, self.index)

    def hook(self, hold: HookSet, model: PreTrainedModel, owned: set[nn.Module]) -> None:
        """Have the layers and weights concerned, which join ``owned``, ask for it while ``hold`` is entered."""
        for layer in self.banks:
            lora_deltas.hook(hold, layer)
        holders = weight_overrides.owners(model, self.weights)
        for module, names in holders.items():
            weight_overrides.hook(hold, module, names)
        owned.update(self.banks, holders)


def changes_of(model: PreTrainedModel, values: Sequence[Foreword], rows: Sequence[int] | None) -> BaseChanges:
    """The changes of ``values``; ``rows`` is each row's value, None the only one for every row.

    Raises:
        SettingsError: a layer, weight or shape that the model does not have, or other weights for some rows only.
    """
    used = [*range(len(values))] if rows is None else sorted(set(rows))
    chosen = [values[i] for i in used]
    weights = weight_overrides.fitted(model, weight_overrides.chosen(chosen))
    banks = lora_deltas.banks(model, chosen)
    index = None
    if banks and rows is not None and len(used) > 1:
        index = tensor_on([used.index(row) for row in rows], model.device)
    return BaseChanges(banks, weights, index)
