"""An encoder's output without the soft prompt that stood in front: whatever it gives is the content's alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Take = Callable[[Tensor], Tensor]


def taken_back(encoder: nn.Module, output: Any, take: Take) -> Any:
    """The output with hidden states ``[B, T, E]`` instead of ``[B, P + T, E]``, and the pooler's for the content.

    Args:
        encoder: the stack, asked for its pooler.
        output: a ``ModelOutput``, which is changed, or with ``return_dict=False`` a tuple.
        take: the content's part of hidden states.
    """
    if isinstance(output, tuple):
        last, *others = output
        last = take(last)
        return (last, *(_other(encoder, part, last, take) for part in others))
    output.last_hidden_state = take(output.last_hidden_state)
    for name in ("pooler_output", "hidden_states"):
        part = getattr(output, name, None)
        if part is not None:
            output[name] = _other(encoder, part, output.last_hidden_state, take)
    return output


def _other(encoder: nn.Module, part: Any, last: Tensor, take: Take) -> Any:
    if isinstance(part, tuple) and part and isinstance(part[0], Tensor) and part[0].ndim == 3:
        return tuple(take(state) for state in part)
    if isinstance(part, Tensor) and part.ndim == 2:
        return _pooled(encoder, last, part)
    return part


def _pooled(encoder: nn.Module, hidden: Tensor, otherwise: Tensor) -> Tensor:
    """What the encoder's own pooler gives for the content ``[B, E]``."""
    pooler: Any = getattr(encoder, "pooler", None)
    if pooler is None:
        return otherwise
    if isinstance(pooler, nn.Linear):  # ALBERT: the activation stands beside it
        activation: Any = encoder.pooler_activation
        pooled: Tensor = activation(pooler(hidden[:, 0]))
    else:
        pooled = pooler(hidden)
    return pooled
