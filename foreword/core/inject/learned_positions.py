"""Positions that a base has learned, one vector each. There are no more: one more is refused before torch meets it."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from foreword.errors import SettingsError
from foreword.messages import Message

# What transformers' families call the table.
_NAMES = ("wpe", "embed_positions", "position_embeddings", "position_embedding")


def learned_positions(model: PreTrainedModel) -> int | None:
    """For how many positions the stack that reads the content has vectors; None where positions are computed."""
    tables = (
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _NAMES
    )
    table = next(tables, None)
    if table is None:
        return None
    # OPT and BART leave out the first two, RoBERTa those up to its padding token's.
    unused = getattr(table, "offset", None)
    if unused is None:
        unused = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - int(unused)


def refuse_longer(learned: int, virtual: int, needed: int) -> None:
    """Raises SettingsError where a row and the ``virtual`` tokens in front need more positions than there are."""
    if needed > learned:
        raise SettingsError(
            "a row, with the virtual tokens in front of it, is longer than the positions that this base has learned",
            expected=Message(
                "{learned} positions, the {virtual} virtual ones counted", learned=learned, virtual=virtual
            ),
            received=needed,
            hint="set max_length lower, or use fewer virtual tokens",
        )
