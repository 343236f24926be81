"""How many steps, how the learning rate goes, and which optimizer: what the settings say of one trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from foreword.errors import SettingsError
from foreword.methods.base import Writer
from foreword.settings.schema import TrainSettings


def total_steps(rows: int, settings: TrainSettings) -> int:
    """Optimizer steps of a whole run over ``rows`` training rows: ``max_steps``, which wins over the epochs as in
    transformers, or what the epochs give."""
    count = math.ceil(math.ceil(rows / settings.batch_rows) / settings.gradient_accumulation_steps)
    planned = max(1, math.ceil(count * settings.num_train_epochs))
    return planned if settings.max_steps < 0 else max(1, settings.max_steps)


def rate_at(step: int, total: int, settings: TrainSettings) -> float:
    """The share of the learning rate that step ``step`` (from 0) of ``total`` uses: warm-up, then linear, cosine or
    constant."""
    warm = math.ceil(settings.warmup_ratio * total)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    if settings.lr_scheduler_type == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0 if settings.lr_scheduler_type == "constant" else 1 - done


def make_optimizer(writer: Writer, settings: TrainSettings, rate: float) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over what the writer trains.

    With a layer-wise decay d, each of L layers is a group of its own, whose ``share`` of the learning rate is
    d^(L - 1 - layer); what stands before the first layer has d^L, and what belongs to none has all of it.

    Raises:
        SettingsError: a layer-wise decay for a method that does not work in layers.
    """
    groups, decay = parameter_groups(writer, settings.layerwise_decay), settings.weight_decay
    for group in groups:
        group["lr"] = rate * group["share"]
    if settings.optim == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optim == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optim == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)


def parameter_groups(writer: Writer, decay: float) -> list[dict[str, Any]]:
    """The trained parameters in groups of one ``share`` of the learning rate each, the largest first."""
    trained = {name: p for name, p in writer.named_parameters() if p.requires_grad}
    if decay == 1:
        return [{"params": list(trained.values()), "share": 1.0}]
    if not writer.layers:
        raise SettingsError(
            "what this method trains does not belong to the base's layers",
            where="layerwise_decay",
            expected="1",
            received=decay,
            hint="use it with prefix, lora or full, or leave it out",
        )
    last = max(writer.layers.values())
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        groups.setdefault(decay ** (last - writer.layers.get(name, last)), []).append(parameter)
    return [{"params": groups[share], "share": share} for share in sorted(groups, reverse=True)]


class Pull:
    """L2-SP (Li et al. 2018): a pull towards the values that training started from, where weight decay pulls to zero.

    It stands for ``strength / 2`` times the squared distance, added to the loss.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], strength: float) -> None:
        self.strength, self.parameters = strength, parameters
        self.start = [p.detach().clone() for p in parameters] if strength else []

    def add(self) -> None:
        """Add its gradient to the parameters that have one."""
        for parameter, start in zip(self.parameters, self.start, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self.strength)
