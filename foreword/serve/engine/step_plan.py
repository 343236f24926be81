"""One step of the engine: which tokens of which rows go through the model together, and what each of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """A row's tokens in a step.

    Args:
        slot: where the row's keys and values are.
        start: how many of the row's tokens are there already.
        ids: the tokens that are read in this step; ``-1 - i`` stands for the foreword's soft slot i.
        front: the row's place in the bank of forewords; None: nothing in front.
        prefix: P, the virtual tokens in front.
        wanted: whether the logits behind the last token are wanted.
    """

    slot: int
    start: int
    ids: tuple[int, ...]
    front: int | None
    prefix: int
    wanted: bool

    @property
    def end(self) -> int:
        """How many of the row's tokens are filed after the step."""
        return self.start + len(self.ids)


@dataclass(frozen=True)
class Segment:
    """Tokens ``begin..stop`` of the step that belong to one row whose prompt is being read."""

    begin: int
    stop: int
    part: Part


@dataclass
class StepPlan:
    """The layout of a step: rows that write one token each stand in front, then parts of prompts.

    Args:
        single: rows that read one token.
        chunks: rows that read several.
        device: of the model.
        moves: whether content is counted from P on (see ``SiteMap.moves_positions``).
    """

    single: Sequence[Part]
    chunks: Sequence[Part]
    device: torch.device
    moves: bool = True
    segments: list[Segment] = field(init=False)
    slots: Tensor = field(init=False)
    places: Tensor = field(init=False)
    positions: Tensor = field(init=False)
    masks: dict[object, Tensor | None] = field(default_factory=dict)
    """What the attention function worked out for the step and needs again in every layer."""

    def __post_init__(self) -> None:
        parts = [*self.single, *self.chunks]
        self.segments, begin = [], len(self.single)
        for part in self.chunks:
            self.segments.append(Segment(begin, begin + len(part.ids), part))
            begin += len(part.ids)
        rows = [(p.slot, place, place + p.prefix * self.moves) for p in parts for place in range(p.start, p.end)]
        slots, places, positions = zip(*rows, strict=True)
        self.slots = torch.tensor(slots, device=self.device)
        self.places = torch.tensor(places, device=self.device)
        self.positions = torch.tensor([positions], device=self.device)

    @property
    def ids(self) -> list[int]:
        """Every token of the step."""
        return [token for part in (*self.single, *self.chunks) for token in part.ids]

    def wanted(self) -> list[int]:
        """Where in the step the logits that are wanted stand, in the order of the rows that want them."""
        at = [place for place, part in enumerate(self.single) if part.wanted]
        return at + [segment.stop - 1 for segment in self.segments if segment.part.wanted]
