"""How many steps, how the learning rate goes, and which optimizer: what the settings say of one trial."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from foreword.settings import TrainSettings


def total_steps(rows: int, settings: TrainSettings) -> int:
    """Optimizer steps of a whole run over ``rows`` training rows."""
    count = math.ceil(math.ceil(rows / settings.per_device_train_batch_size) / settings.gradient_accumulation_steps)
    planned = max(1, math.ceil(count * settings.num_train_epochs))
    return planned if settings.max_steps < 0 else min(planned, max(1, settings.max_steps))


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


def make_optimizer(parameters: Sequence[nn.Parameter], settings: TrainSettings, rate: float) -> torch.optim.Optimizer:
    """The optimizer that the settings name."""
    decay = settings.weight_decay
    if settings.optim == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optim == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.optim == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
