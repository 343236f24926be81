"""The passes of one optimizer step: rows of one foreword or of several, through the frozen base together.

A row never sees another one, and each reads the values of its own writer, so the gradient of the sum of all losses is,
for each writer, that of its own rows alone: trials that train side by side share the work and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.injection import Injection
from foreword.core.inject.value import Foreword, KeyValue
from foreword.core.passes.prefix_cache import PrefixCache, begins
from foreword.data.tokens.examples import Example
from foreword.methods.base import Writer
from foreword.training.micro_batches import parts_of
from foreword.training.objective import Objective, joined


@dataclass(frozen=True)
class Share:
    """What one trial brings to a step: its writer, its objective, its batches (several where it accumulates), and what
    is kept of the beginnings of its rows."""

    writer: Writer
    objective: Objective
    batches: Sequence[Sequence[Example]]
    past: PrefixCache | None = None


@dataclass
class Total:
    """The sum of a share's losses, and how many units it is over."""

    loss: float = 0.0
    units: int = 0


@dataclass(frozen=True)
class _Placed:
    """A row, the place of its share among the shares, and the row's beginning where that is not computed again."""

    share: int
    row: Example
    past: Mapping[str, KeyValue] = field(default_factory=dict)

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.row.input_ids

    @property
    def target_ids(self) -> tuple[int, ...]:
        return self.row.target_ids


def backward(
    model: PreTrainedModel, injection: Injection, shares: Sequence[Share], rows: int = 0, scale: float = 1.0
) -> list[Total]:
    """Accumulate, for every writer, the gradient of the sum of its own losses.

    Shares whose objectives read the same pass (:func:`~foreword.training.objective.joined`) are run together.

    Args:
        injection: of ``model``, in force.
        rows: rows of a pass at most; 0 leaves it to the batches. The gradients do not depend on it.
        scale: of the gradients.
    """
    totals, sums = [Total() for _ in shares], [list[Tensor]() for _ in shares]
    for together, objective in _bundles(shares):
        for number in range(max(len(shares[i].batches) for i in together)):
            placed = [
                _placed(i, shares[i], row, len(together) == 1)
                for i in together
                for row in (shares[i].batches[number] if number < len(shares[i].batches) else ())
            ]
            # With several processes one of them may have no row of a small batch.
            for part in _parts(model, placed, rows) if placed else ():
                summed, own = _pass(model, injection, shares, objective, part)
                (summed if scale == 1.0 else summed * scale).backward()
                for place, (loss, units) in own.items():
                    sums[place].append(loss)
                    totals[place].units += units
    _read(totals, sums)
    return totals


def _read(totals: Sequence[Total], sums: Sequence[Sequence[Tensor]]) -> None:
    """The losses of the whole step, in the one moment in which the host waits for the device."""
    every = [loss for some in sums for loss in some]
    numbers = iter(torch.stack(every).tolist() if every else ())
    for total, some in zip(totals, sums, strict=True):
        for _ in some:
            total.loss += next(numbers)


def _bundles(shares: Sequence[Share]) -> list[tuple[list[int], Objective]]:
    """Which shares go together, by their places, and the objective whose pass serves them."""
    bundles: list[tuple[list[int], Objective]] = []
    for place, share in enumerate(shares):
        for at, (together, _) in enumerate(bundles):
            whole = [*(shares[i] for i in together), share]
            objective = joined([one.objective for one in whole]) if all(one.writer.per_row for one in whole) else None
            if objective is not None:
                bundles[at] = ([*together, place], objective)
                break
        else:
            bundles.append(([place], share.objective if share.past is None else share.objective.with_lead(())))
    return bundles


def _placed(place: int, share: Share, row: Example, alone: bool) -> _Placed:
    """The row as its pass reads it: behind its lead, unless its objective puts that there itself, and without the
    beginning that is kept."""
    if alone and share.past is None:
        return _Placed(place, row)
    led = row.behind(share.objective.lead) if share.objective.lead else row
    past = share.past.front(led.input_ids) if share.past else None
    if past is None:
        return _Placed(place, led)
    return _Placed(place, replace(led, input_ids=led.input_ids[begins(led.input_ids) :]), past)


def _parts(model: PreTrainedModel, placed: list[_Placed], rows: int) -> list[list[_Placed]]:
    """The passes over the rows of one batch; in each, those of a share stand together."""
    parts = []
    for part in parts_of(model, placed):
        size = rows or len(part)
        parts += [sorted(part[i : i + size], key=lambda one: one.share) for i in range(0, len(part), size)]
    return parts


def _in_front(
    values: Sequence[Foreword], owners: Sequence[int], part: Sequence[_Placed]
) -> tuple[list[Foreword], list[int]]:
    """The forewords of a pass, and which one each row has: its share's, or that behind the row's own beginning."""
    fronts, index = list(values), list(owners)
    for row, (owner, one) in enumerate(zip(owners, part, strict=True)):
        if one.past:
            index[row] = len(fronts)
            fronts.append(replace(values[owner], sites=one.past))
    return fronts, index


def _pass(
    model: PreTrainedModel,
    injection: Injection,
    shares: Sequence[Share],
    objective: Objective,
    part: list[_Placed],
) -> tuple[Tensor, dict[int, tuple[Tensor, int]]]:
    """The sum of all losses of a pass, with its graph, and of each share in it the sum, without, and its units."""
    present = list(dict.fromkeys(one.share for one in part))
    values = [shares[i].writer.write() for i in present]
    fronts, index = _in_front(values, [present.index(one.share) for one in part], part)
    injection.put(fronts, None if len(fronts) == 1 else index)
    found = objective.outputs(model, [one.row for one in part])
    totals: dict[int, tuple[Tensor, int]] = {}
    sums: list[Tensor] = []
    start = 0
    for place, value in zip(present, values, strict=True):
        own = [one.row for one in part if one.share == place]
        mine = found if len(present) == 1 else found.of(start, start + len(own))
        start += len(own)
        losses = shares[place].objective.losses(mine, own, value)
        totals[place] = losses.detach().sum(), losses.numel()
        sums.append(losses.sum())
    return torch.stack(sums).sum() if len(sums) > 1 else sums[0], totals
