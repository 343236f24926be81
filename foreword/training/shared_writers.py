"""Several tasks' writers with a shared part: what all tasks have in common is learned from all of them.

Each value of a task is its own plus a shared change, ``p_t + s`` (Evgeniou & Pontil 2004); both start where the method
starts them, s at zero, so before the first step every task is what it would have been alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foreword.core.inject.value import Foreword
from foreword.methods.base import Writer


class _Written(nn.Module):
    """A writer that can be called, with its head last."""

    def __init__(self, inner: Writer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> Foreword:
        return self.inner.write()


class SharingWriter(Writer):
    """One task's writer plus the part that it shares; ``shared`` is the same module for all tasks.

    Where tasks have different lengths (prompts of different words), the shared part is as long as the shortest and
    belongs to the last positions, next to the content.
    """

    def __init__(self, inner: Writer, shared: nn.ParameterList, names: Sequence[str]) -> None:
        super().__init__()
        self.own, self.shared, self.names = _Written(inner), shared, tuple(names)

    def write(self) -> Foreword:
        own = dict(self.own.named_parameters())
        changed = {name: _plus(own[name], part) for name, part in zip(self.names, self.shared, strict=True)}
        value: Foreword = functional_call(self.own, changed, ())
        return value


def _plus(own: Tensor, shared: Tensor) -> Tensor:
    missing = own.shape[0] - shared.shape[0]
    return own + (torch.cat([shared.new_zeros(missing, *shared.shape[1:]), shared]) if missing else shared)


def sharing(writers: Sequence[Writer]) -> list[SharingWriter]:
    """The writers of several tasks, joined by a shared part for every trainable value that all of them have.

    A head is never shared: classes of different tasks have nothing to do with each other.
    """
    parameters = [dict(_Written(writer).named_parameters()) for writer in writers]
    first = parameters[0]
    names = [
        name
        for name, value in first.items()
        if value.requires_grad and not _is_head(name) and all(_joins(value, other.get(name)) for other in parameters)
    ]
    shared = nn.ParameterList()
    for name in names:
        length = min(other[name].shape[0] for other in parameters)
        shared.append(nn.Parameter(first[name].new_zeros(length, *first[name].shape[1:])))
    return [SharingWriter(writer, shared, names) for writer in writers]


def _is_head(name: str) -> bool:
    # The names that ``Headed`` gives to its own two.
    return name in ("inner.weight", "inner.bias")


def _joins(value: Tensor, other: Tensor | None) -> bool:
    return other is not None and value.ndim > 0 and other.shape[1:] == value.shape[1:]
