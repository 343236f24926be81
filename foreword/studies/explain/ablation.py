"""What each part of a foreword is worth: the loss on rows without it, rows behind different rests in one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foreword.core.inject.injection import injected
from foreword.core.inject.sites import layer_of
from foreword.core.inject.value import Foreword, KeyValue
from foreword.data.tokens.examples import Example
from foreword.evaluation.predict import Asker
from foreword.training.heads.base import Chooser
from foreword.training.objective import Complete, Tag

_PAIRS = 64
"""Pairs of a row and what stands in front of it in one pass."""


@dataclass(frozen=True)
class Without:
    """What happens without one part.

    Args:
        part: ``token 3``, ``decoder layer 2``; ``whole`` for the foreword itself.
        loss: mean -log p of the right answers, by row (a mean over tokens or words in each).
        more, low, high: mean rise of a row's loss against the whole, with its 95% interval.
        metric: share of right answers (of words, for tagging); None where answers are written.
    """

    part: str
    loss: float
    more: float
    low: float
    high: float
    metric: float | None

    @property
    def matters(self) -> bool:
        """Whether taking the part away is more than chance in these rows."""
        return self.low > 0 or self.high < 0


def tokens(value: Foreword, neutral: Tensor) -> Iterator[tuple[str, Foreword]]:
    """The foreword without each of its virtual tokens; a soft slot holds its place and becomes ``neutral [E]``."""
    count = value.num_virtual_tokens
    for i in range(count):
        kept = [place for place in range(count) if place != i]
        prompt = value.prompt[kept] if value.prompt is not None and kept else None
        sites = {name: KeyValue(kv.keys[kept], kv.values[kept]) for name, kv in value.sites.items()} if kept else {}
        yield f"token {i}", replace(value, prompt=prompt, sites=sites)
    if value.slots is not None:
        for i in range(value.slots.shape[0]):
            changed = value.slots.clone()
            changed[i] = neutral.to(changed)
            yield f"slot {i}", replace(value, slots=changed)


def layers(value: Foreword) -> Iterator[tuple[str, Foreword]]:
    """The foreword without what it gives each layer: its keys and values, its adapters, its changed weights."""
    groups: dict[str, dict[str, set[str]]] = {}
    for part, holder in (("sites", value.sites), ("adapters", value.adapters), ("weights", value.weights)):
        for name in holder:
            number, stack = layer_of(name), "encoder " if "encoder" in name.split(".") else ""
            called = f"{stack}layer {number}" if number is not None else f"{stack}outside of layers"
            groups.setdefault(called, {}).setdefault(part, set()).add(name)
    if len(groups) < 2:
        return
    for called, parts in groups.items():
        rest: dict[str, Any] = {
            part: {name: held for name, held in getattr(value, part).items() if name not in names}
            for part, names in parts.items()
        }
        yield called, replace(value, **rest)


def ablate(
    asker: Asker, value: Foreword, parts: Sequence[tuple[str, Foreword]], rows: Sequence[Example],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Without]:  # fmt: skip
    """The whole and the foreword without each of ``parts``, on rows with right answers."""
    every = {"whole": value, **dict(parts)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
    # Changed weights are the model's own while they are in force: such forewords cannot share a batch.
    room = 1 if value.weights else max(1, _PAIRS // min(len(rows), asker.batch_size))
    names = list(every)
    for start in range(0, len(names), room):
        some = names[start : start + room]
        for at in range(0, len(rows), asker.batch_size):
            chosen = rows[at : at + asker.batch_size]
            measured = _measured(asker, value, {name: every[name] for name in some}, chosen)
            for name, one in measured.items():
                found[name] += one
        report(min(start + room, len(names)), len(names))
    whole = [loss for loss, _ in found["whole"]]
    written = isinstance(asker.objective(value), Complete)
    return [_summed(name, found[name], whole, written) for name in names]


def _measured(
    asker: Asker, value: Foreword, some: Mapping[str, Foreword], rows: Sequence[Example]
) -> dict[str, list[tuple[float, float]]]:
    """Loss and share of right answers of every row behind every one of ``some``, in one pass."""
    objective, asked = asker.objective(value), list(asker.worded(value, rows))
    count, batch = len(asked), asked * len(some)
    index = None if len(some) == 1 else [place for place in range(len(some)) for _ in asked]
    out: dict[str, list[tuple[float, float]]] = {}
    with torch.no_grad(), injected(asker.model, list(some.values()), index):
        found = objective.outputs(asker.model, batch)
    for place, (name, one) in enumerate(some.items()):
        own = found.of(place * count, (place + 1) * count)
        losses, owners = objective.losses(own, asked, one), own.rows
        right = torch.zeros(len(losses))
        if isinstance(objective, Tag):
            gold = torch.tensor([t for e in asked for t, at in zip(e.tags, e.places, strict=True) if at >= 0])
            owners, best = owners[gold.to(owners.device) >= 0], objective.scores(own, one).argmax(-1).cpu()
            right = (best == gold)[gold >= 0].float()
        elif isinstance(objective, Chooser):
            best = objective.scores(own, one).argmax(-1).cpu()
            right = (best == torch.tensor([e.gold for e in asked])).float()
        out[name] = list(
            zip(_by_row(losses.cpu(), owners.cpu(), count), _by_row(right, owners.cpu(), count), strict=True)
        )
    return out


def _by_row(values: Tensor, owners: Tensor, count: int) -> list[float]:
    total = torch.zeros(count).index_add(0, owners, values.float())
    number = torch.zeros(count).index_add(0, owners, torch.ones(len(owners)))
    means: list[float] = (total / number.clamp(min=1)).tolist()
    return means


def _summed(name: str, found: Sequence[tuple[float, float]], whole: Sequence[float], written: bool) -> Without:
    losses = torch.tensor([loss for loss, _ in found], dtype=torch.float64)
    moved = losses - torch.tensor(whole, dtype=torch.float64)
    more = float(moved.mean())
    reach = 1.96 * float(moved.std()) / math.sqrt(len(moved)) if len(moved) > 1 else 0.0
    metric = None if written else sum(right for _, right in found) / len(found)
    return Without(name, float(losses.mean()), more, more - reach, more + reach, metric)
