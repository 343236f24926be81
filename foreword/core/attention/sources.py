"""What goes in at the attention function, what comes by there, and who decides: the words that all of core uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """What reached the attention function at one site: keys ``[B, H, S, Dk]``, values ``[B, H, S, Dv]``.

    ``state``: a recurrent layer's state after the tokens, ``[B, 1, 1, D]``, instead.
    """

    module: nn.Module
    query_length: int
    key: Tensor
    value: Tensor
    causal: bool
    window: int | None
    state: bool = False


@dataclass(frozen=True)
class Front:
    """What stands in front at one site: keys ``[B, H, P, Dk]``, values ``[B, H, P, Dv]``, live ``[B, P]`` or None
    (all).

    ``lengths`` ``[B]`` is each row's own P: rows with a shorter foreword are padded at the end.
    """

    keys: Tensor
    values: Tensor
    live: Tensor | None
    lengths: Tensor


@dataclass(frozen=True)
class Weighed:
    """The weights of one attention call, mean over heads: ``[B, T, S]``; S counts the foreword's keys in front, too."""

    module: nn.Module
    weights: Tensor


class Source(Protocol):
    """What can be put in force: it knows whether a module is one of its own, and what the module is given."""

    def owns(self, module: nn.Module) -> bool:
        """Whether it decides for ``module``."""
        ...

    def now(self) -> Source:
        """What it gives from now on, whatever is put into it later."""
        ...

    def front(self, module: nn.Module, rows: int) -> Front | None:
        """What stands in front of a batch of ``rows`` rows at an attention module; None for nothing."""
        ...

    def added(self, layer: nn.Module, x: Tensor) -> Tensor | None:
        """What is added to what a linear layer gives for ``x [B, T, in]``; None for nothing."""
        ...

    def weight(self, name: str) -> Tensor | None:
        """What stands in the place of a parameter of the base; None for its own."""
        ...
