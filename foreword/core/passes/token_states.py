"""The last hidden state at single tokens: what a tag is read from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.passes.scoring import Ids, last_states, pad


def states_at(
    model: PreTrainedModel, inputs: Sequence[Ids], places: Sequence[Sequence[int]], fill: int
) -> tuple[Tensor, Tensor]:
    """The last hidden state ``[N, E]`` at the given places of each row, row by row, and each one's row ``[N]``."""
    batch = pad(inputs, fill, model.device)
    hidden = last_states(model, input_ids=batch.ids, attention_mask=batch.mask)
    rows = torch.tensor([b for b, own in enumerate(places) for _ in own], device=hidden.device, dtype=torch.long)
    at = torch.tensor([place for own in places for place in own], device=hidden.device, dtype=torch.long)
    return hidden[rows, at].float(), rows
