"""Several processes at one run: each takes its share of every batch, and all of them make the same step.

The frozen base stands whole in each process. What is trained is small, so the sum of its gradients is all that has to
travel; every process then makes the same optimizer step from the same numbers. Without a process group all of this is
the plain run of one process.

A base that does not fit in one is spread over them (:func:`spread`): each keeps a part of every layer's weights. A
layer is put together when all processes reach it, so all of them see the same rows: memory is shared then, not work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import distributed, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from foreword.errors import SettingsError

T = TypeVar("T")
_spread: ContextVar[bool] = ContextVar("foreword_spread", default=False)


@contextmanager
def spread(model: PreTrainedModel, on: bool) -> Iterator[None]:
    """Spread the layers of ``model`` over the processes (FSDP); the model is of no use after the block.

    Raises:
        SettingsError: its layers cannot be told apart, or there is one process only.
    """
    if not on:
        yield
        return
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if size() == 1 or not layers:
        raise SettingsError(
            "this base cannot be spread over processes",
            where="shard",
            expected="several processes, and a base with layers that can be told apart",
            received=f"{size()} process(es), {len(layers)} layers in {type(model).__name__}",
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(model.device.type, (size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    token = _spread.set(True)
    try:
        yield
    finally:
        _spread.reset(token)


def size() -> int:
    """How many processes work at this run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; 0 writes the files and talks to the user."""
    return distributed.get_rank() if size() > 1 else 0


def shares_rows() -> bool:
    """Whether each process sees rows of its own."""
    return size() > 1 and not _spread.get()


def share(rows: Sequence[T]) -> Sequence[T]:
    """This process's rows of a batch."""
    return rows[rank() :: size()] if shares_rows() else rows


def collected(own: list[T]) -> list[T]:
    """The inverse of :func:`share`: what every process made of its rows, in the order of the rows."""
    if not shares_rows():
        return own
    every: list[list[T]] = [[] for _ in range(size())]
    distributed.all_gather_object(every, own)
    longest = max(map(len, every))
    return [made[i] for i in range(longest) for made in every if i < len(made)]


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    return _sum([float(flag)])[0] > 0 if size() > 1 else flag


def add_up(numbers: Sequence[float]) -> list[float]:
    """Each number summed over the processes' rows."""
    return _sum(numbers) if shares_rows() else list(numbers)


def _sum(numbers: Sequence[float]) -> list[float]:
    summed = torch.tensor(numbers, dtype=torch.float64, device=_device())
    distributed.all_reduce(summed)
    found: list[float] = summed.tolist()
    return found


def add_up_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over the processes, in place; None stays where no process has one."""
    if not shares_rows():
        return
    present = add_up([float(p.grad is not None) for p in parameters])
    chosen = [p for p, count in zip(parameters, present, strict=True) if count]
    if not chosen:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in chosen]).to(_device())
    distributed.all_reduce(flat)
    for parameter, part in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.device)


def told_by_first(value: T | None) -> T:
    """What process 0 says; the others' own value does not matter."""
    said = [value]
    if size() > 1:
        distributed.broadcast_object_list(said, 0)
    return said[0]  # type: ignore[return-value]


def _device() -> torch.device:
    """Where tensors have to be for the group to send them."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if distributed.get_backend() == "nccl"
        else torch.device("cpu")
    )
