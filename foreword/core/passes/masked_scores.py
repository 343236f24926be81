"""What a masked language model says at the mask: scores of choices of one token or several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.base.device import tensor_on
from foreword.core.passes.output_layer import log_probs
from foreword.core.passes.scoring import Ids, pad
from foreword.errors import SettingsError
from foreword.messages import Message


def masked_scores(
    model: PreTrainedModel, inputs: Sequence[Ids], choices: Sequence[Ids], mask: int, fill: int
) -> Tensor:
    """log p(choice at the mask | input) ``[B, C]``, a token's mean.

    A choice of n tokens has n masks in its place, each of which is answered without seeing the others (Schick and
    Schütze 2021 fill them one by one instead; that is n passes for each choice). The mean over its tokens, not the sum,
    so that long choices can win. One pass for each length of the choices.

    Args:
        inputs: B rows of token ids with one mask each.
        choices: C token sequences, none empty.
        mask: the mask's id.
        fill: the padding id.
    """
    places = [row.index(mask) for row in map(list, inputs)]
    columns: dict[int, Tensor] = {}
    for length in sorted({len(choice) for choice in choices}):
        wide = [
            [*row[:at], *[mask] * length, *row[at + 1 :]] for row, at in zip(map(list, inputs), places, strict=True)
        ]
        batch = pad(wide, fill, model.device)
        rows = torch.arange(len(inputs), device=model.device).repeat_interleave(length)
        positions = tensor_on([at + j for at in places for j in range(length)], model.device)
        found = [number for number, choice in enumerate(choices) if len(choice) == length]
        # Every place is asked for one word of each choice.
        words = tensor_on([[choices[n][j] for n in found] for j in range(length)], model.device)
        which = torch.arange(len(rows), device=model.device).repeat_interleave(len(found))
        logp = log_probs(
            model,
            (rows, positions),
            which,
            words.repeat(len(inputs), 1).flatten(),
            input_ids=batch.ids,
            attention_mask=batch.seen,
        ).view(len(inputs), length, len(found))
        columns |= dict(zip(found, logp.mean(1).unbind(1), strict=True))
    return torch.stack([columns[number] for number in range(len(choices))], 1)


def refuse_headless(model: PreTrainedModel) -> None:
    """A mask is answered by the language head that the model was trained with.

    Raises:
        SettingsError: the model has none.
    """
    if model.get_output_embeddings() is None:
        raise SettingsError(
            Message(
                "{name} was loaded without its language head, which {{{{ mask }}}} asks", name=type(model).__name__
            ),
            where="--base",
            hint="load it with load_base(..., task_head=True)",
        )
