"""The passes of one optimizer step: rows of one foreword or of several, through the frozen base together.

A row never sees another one, and each reads the values of its own writer, so the gradient of the sum of all losses is,
for each writer, that of its own rows alone: trials that train side by side share the work and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject import Injection
from foreword.data.batch import Example
from foreword.methods.base import Writer
from foreword.training.objective import Objective, joined
from foreword.training.parts import parts_of


@dataclass(frozen=True)
class Share:
    """What one trial brings to a step: its writer, its objective, and its batches (several where it accumulates)."""

    writer: Writer
    objective: Objective
    batches: Sequence[Sequence[Example]]


@dataclass
class Total:
    """The sum of a share's losses, and how many units it is over."""

    loss: float = 0.0
    units: int = 0


@dataclass(frozen=True)
class _Placed:
    """A row and the place of its share among the shares."""

    share: int
    row: Example

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.row.input_ids

    @property
    def target_ids(self) -> tuple[int, ...]:
        return self.row.target_ids


def backward(model: PreTrainedModel, injection: Injection, shares: Sequence[Share], rows: int = 0) -> list[Total]:
    """Accumulate, for every writer, the gradient of the sum of its own losses.

    Shares whose objectives read the same pass (:func:`~foreword.training.objective.joined`) are run together.

    Args:
        injection: of ``model``, in force.
        rows: rows of a pass at most; 0 leaves it to the batches. The gradients do not depend on it.
    """
    totals = [Total() for _ in shares]
    for together, objective in _bundles(shares):
        for number in range(max(len(shares[i].batches) for i in together)):
            placed = [
                _Placed(i, row if len(together) == 1 else _led(row, shares[i].objective))
                for i in together
                for row in (shares[i].batches[number] if number < len(shares[i].batches) else ())
            ]
            for part in _parts(model, placed, rows):
                _pass(model, injection, shares, objective, part, totals)
    return totals


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
            bundles.append(([place], share.objective))
    return bundles


def _led(row: Example, objective: Objective) -> Example:
    """The row with what its own objective puts in front of it."""
    return row.behind(objective.lead) if objective.lead else row


def _parts(model: PreTrainedModel, placed: list[_Placed], rows: int) -> list[list[_Placed]]:
    """The passes over the rows of one batch; in each, those of a share stand together."""
    parts = []
    for part in parts_of(model, placed):
        size = rows or len(part)
        parts += [sorted(part[i : i + size], key=lambda one: one.share) for i in range(0, len(part), size)]
    return parts


def _pass(
    model: PreTrainedModel,
    injection: Injection,
    shares: Sequence[Share],
    objective: Objective,
    part: list[_Placed],
    totals: list[Total],
) -> None:
    present = list(dict.fromkeys(one.share for one in part))
    values = [shares[i].writer.write() for i in present]
    injection.put(values, None if len(present) == 1 else [present.index(one.share) for one in part])
    found = objective.outputs(model, [one.row for one in part])
    summed: Tensor | None = None
    start = 0
    for place, value in zip(present, values, strict=True):
        own = [one.row for one in part if one.share == place]
        mine = found if len(present) == 1 else found.of(start, start + len(own))
        start += len(own)
        losses = shares[place].objective.losses(mine, own, value)
        totals[place].loss += float(losses.detach().sum())
        totals[place].units += losses.numel()
        summed = losses.sum() if summed is None else summed + losses.sum()
    assert summed is not None
    summed.backward()
