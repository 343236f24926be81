"""Many variants on few rows, few variants on all of them; always paired: whoever is compared answered the same rows.

Successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016) over rows instead of training steps: at each rung
every variant that is left answers more rows, and the worse half stops. The one to beat is never stopped, so that
everybody can be compared with it at every rung.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from foreword.evaluation.predictions import Prediction
from foreword.studies.prompts.variant import Variant
from foreword.training.loop import Score

FIRST = 24
"""Rows that everybody answers, at least: below that chance decides more than the prompt."""


class BudgetSpentError(Exception):
    """The next answers do not fit the budget any more; what was answered so far counts."""


class UnfitError(Exception):
    """A variant that cannot be asked, for instance because it is longer than the model reads."""


Answer = Callable[[Variant, Sequence[int]], list[Prediction]]
"""A variant's answers to rows, given by their indices. Raises BudgetSpentError, UnfitError."""
Scored = Callable[[Sequence[Prediction]], Score]


@dataclass
class Standing:
    """How far a variant came: ``rows`` answered, its score on them, and whether these were all rows."""

    variant: Variant
    rows: int = 0
    score: Score | None = None
    whole: bool = False
    refused: str = ""


@dataclass
class Halving:
    """Everybody's place, the best first; ``complete`` is False when the budget ended it."""

    places: list[Standing] = field(default_factory=list)
    complete: bool = True


def rungs(rows: int, entrants: int) -> list[int]:
    """Numbers of rows of the rungs, rising to all of them: each doubles, and the first is not below ``FIRST``."""
    sizes = [rows]
    while entrants > 2 and sizes[0] // 2 >= FIRST:
        sizes.insert(0, sizes[0] // 2)
        entrants = (entrants + 1) // 2
    return sizes


def successive_halving(
    entrants: Sequence[Variant], champion: Variant, rows: Sequence[int], answer: Answer, scored: Scored
) -> Halving:
    """Let variants answer rows until all rows are answered or one half after another has stopped.

    Args:
        entrants: the new ones; one of them has to be better than ``champion`` on all rows to win.
        rows: indices in an order whose beginnings are fair samples (see :func:`fair_order`).

    Returns the places, those that answered every row first, the best of them in front; the champion among them.
    """
    found = Halving([Standing(champion), *(Standing(variant) for variant in entrants)])
    alive = list(found.places)
    try:
        for size in rungs(len(rows), len(entrants)):
            chosen = rows[:size]
            for place in alive:
                _run(place, chosen, answer, scored)
                place.whole = size == len(rows) and not place.refused
            alive = _better_half(alive) if size < len(rows) else alive
    except BudgetSpentError:
        found.complete = False
    found.places.sort(key=lambda place: (-place.whole, -place.rows, *_order(place)))
    return found


def _run(place: Standing, rows: Sequence[int], answer: Answer, scored: Scored) -> None:
    try:
        answers = answer(place.variant, rows)
    except UnfitError as problem:
        place.refused = str(problem)
        return
    place.rows, place.score = len(rows), scored(answers)


def _better_half(alive: Sequence[Standing]) -> list[Standing]:
    champion, others = alive[0], sorted((p for p in alive[1:] if not p.refused), key=_order)
    return [champion, *others[: (len(others) + 1) // 2]]


def _order(place: Standing) -> tuple[float, float]:
    """Higher metrics first, and the lower loss where they are equal."""
    if place.score is None:
        return float("inf"), float("inf")
    loss = place.score.loss
    return -place.score.metric, loss if loss == loss else float("inf")


def better(a: Standing, b: Standing) -> bool:
    """Whether ``a`` answered every row and did so better than ``b``."""
    return a.whole and a.score is not None and (not b.whole or _order(a) < _order(b))


def fair_order(golds: Sequence[str], seed: int) -> list[int]:
    """Indices in a drawn order in which every beginning has each label about as often as the whole."""
    dice, groups = random.Random(seed), defaultdict(list)
    for index, gold in enumerate(golds):
        groups[gold].append(index)
    places: Mapping[str, list[int]] = groups
    keyed = []
    for _, members in sorted(places.items()):
        dice.shuffle(members)
        shift = dice.random()
        keyed += [((number + shift) / len(members), index) for number, index in enumerate(members)]
    return [index for _, index in sorted(keyed)]
