"""Whether a text in front of a row is its keys and values and nothing more: asked of the model, on a few tokens.

Where some layer hands on a state beside attention (Mamba, linear attention, a convolution), also one that stands next
to attention in every layer (Falcon-H1), the keys and values of a text say less than the text itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from foreword.core.attention.pass_context import within
from foreword.core.attention.sources import Call, Front

_TEXT, _CONTENT = 3, 5
# Shares of the largest value: what rounding leaves in float32, and of the text's whole effect in shorter formats, where
# rounding alone can send a token to another expert.
_ROUNDING, _OF_THE_EFFECT = 1e-4, 0.25

Pass = Callable[[Tensor, "Tensor | None"], Tensor]


class _Recorded:
    """The keys and values of a text, given back to the modules that made them, in the order of their calls."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._waiting: dict[nn.Module, list[Call]] = {}
        for call in calls:
            self._waiting.setdefault(call.module, []).append(call)

    def owns(self, module: nn.Module) -> bool:
        return module in self._waiting

    def now(self) -> _Recorded:
        return self

    def front(self, module: nn.Module, rows: int) -> Front | None:
        call = self._waiting[module].pop(0)
        lengths = torch.full((rows,), call.key.shape[2], device=call.key.device)
        return Front(call.key, call.value, None, lengths)

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        return None

    def weight(self, name: str) -> Tensor | None:
        return None


def more_than_keys_and_values(read: Pass, device: torch.device, vocabulary: int, moves_positions: bool) -> bool:
    """Whether content behind a text's keys and values differs from content behind the text.

    Args:
        read: one routed pass over ids ``[1, T]`` at positions ``[1, T]`` (None: the model counts), for the last hidden
            state ``[1, T, E]``.
        vocabulary: V.
        moves_positions: whether the model can be told the content's positions.
    """
    ids = torch.arange(1, 1 + _TEXT + _CONTENT, device=device)[None] % vocabulary
    text, content = ids[:, :_TEXT], ids[:, _TEXT:]
    places = torch.arange(_TEXT, ids.shape[1], device=device)[None] if moves_positions else None
    calls: list[Call] = []
    try:
        with torch.no_grad(), within(sources=None):
            expected, plain = read(ids, None)[0, _TEXT:], read(content, places)[0]
            with within(calls=calls):
                read(text, None)
        with torch.no_grad(), within(sources=(_Recorded(calls),)):
            behind = read(content, places)[0]
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return True  # it cannot be read that way
    return _differ(expected, behind, plain)


def _differ(expected: Tensor, behind: Tensor, plain: Tensor) -> bool:
    precise, eps = expected.dtype.itemsize >= 4, torch.finfo(expected.dtype).eps
    scale = expected.float().abs().max().clamp(min=1e-6)
    off, effect = (_typical(x.float() - expected.float()) for x in (behind, plain))
    if precise:
        return bool(off > _ROUNDING * scale)
    return bool(off > 2 * eps * scale and off > _OF_THE_EFFECT * effect)


def same_states(got: Tensor, expected: Tensor) -> bool:
    """Whether two passes gave the same last hidden state ``[B, T, E]``, up to rounding; in short formats for most
    tokens, as rounding alone can send one to another expert."""
    off = (got.float() - expected.float()).abs().amax(-1).flatten()
    most = off.max() if expected.dtype.itemsize >= 4 else off.median()
    tolerance = min(1000 * torch.finfo(expected.dtype).eps, 0.1)
    return got.shape == expected.shape and bool(most <= tolerance * expected.float().abs().max().clamp(min=1e-6))


def _typical(difference: Tensor) -> Tensor:
    """The median token's largest difference."""
    return difference.abs().amax(-1).median()


def depth_of(config: object, stack: str) -> int | None:
    """How many layers the configuration says that a stack (``encoder``, ``decoder``) has; None where it is silent."""
    inner = getattr(config, stack, None)
    if inner is not None:
        config = inner
    names: Sequence[str] = (f"{stack}_layers", f"num_{stack}_layers", "num_layers", "num_hidden_layers")
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), None)
