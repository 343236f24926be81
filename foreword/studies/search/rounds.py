"""Rounds: propose variants of the best prompt so far, race them, keep the winner, say what it gave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Protocol

from foreword.evaluation.predictions import Prediction
from foreword.messages import Message
from foreword.studies.prompts.successive_halving import Answer, Halving, Scored, Standing, better, successive_halving
from foreword.studies.prompts.variant import Variant, distinct

SPENT = Message("the budget was spent")


@dataclass(frozen=True)
class State:
    """What a proposer may look at.

    Args:
        round: the round's number, from 1.
        best: the champion.
        beam: the best few variants that answered every row, the champion first.
        answers: the champion's answers on the search rows.
        seed: of the search; a proposer draws from ``f"{seed}/{round}/{its name}"`` alone.
    """

    round: int
    best: Variant
    beam: tuple[Variant, ...]
    answers: tuple[Prediction, ...]
    seed: int

    def dice(self, name: str) -> str:
        """The seed of one proposer in this round."""
        return f"{self.seed}/{self.round}/{name}"


class Proposer(Protocol):
    """Makes variants; the same state gives the same variants."""

    @property
    def name(self) -> str: ...

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        """At most ``wanted`` variants, the most promising first."""
        ...


@dataclass(frozen=True)
class Round:
    """What one round changed and what it gave, on the search rows."""

    number: int
    before: str
    after: str
    change: str
    metric_before: float
    metric_after: float
    entrants: list[dict[str, Any]]
    complete: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """One line of ``rounds.jsonl``."""
        return asdict(self)


@dataclass
class Played:
    """The outcome of all rounds: the champion, everybody's best place, and the rounds."""

    champion: Variant
    places: dict[str, Standing] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    ended: str = "every round was played"

    @property
    def finalists(self) -> list[Standing]:
        """Those that answered every row, the best first."""
        whole = [place for place in self.places.values() if place.whole and place.score is not None]
        return sorted(whole, key=lambda place: (-place.score.metric, place.score.loss))  # type: ignore[union-attr]


Keep = Callable[[str, Callable[[], list[Variant]]], list[Variant]]
"""Gives back what was kept under a name, or makes it and keeps it: a resumed search proposes nothing twice."""


@dataclass(frozen=True)
class Rules:
    """How rounds are played.

    Args:
        answer: what a variant answers on rows.
        scored: the score of answers.
        rows: the search rows in a fair order.
        rounds: rounds after round 0; without any, the variants of round 0 all answer every row.
        width: new variants a round.
        seed: of the search.
        keep: gives back what was kept of a round's proposals, or makes and keeps it.
        record: is told of each round when it ends.
        allowed: whether the budget lets anybody propose more.
    """

    answer: Answer
    scored: Scored
    rows: Sequence[int]
    rounds: int
    width: int
    seed: int
    keep: Keep = lambda name, make: make()
    record: Callable[[Round], None] = lambda result: None
    allowed: Callable[[], bool] = lambda: True


def play(start: Variant, others: Sequence[Variant], proposers: Sequence[Proposer], rules: Rules) -> Played:
    """Round 0 compares ``start`` with ``others``; each later one proposes variants of the champion."""
    seen: set[str] = set()
    entrants = distinct([start, *others], seen)[1:]
    played = Played(start)
    began = time.monotonic()
    _finish(played, 0, _all(start, entrants, rules), began, rules.record)
    for number in range(1, rules.rounds + 1):
        if not played.rounds[-1].complete or not rules.allowed():
            played.ended = SPENT
            return played
        began = time.monotonic()
        top = [place.variant for place in played.finalists]
        beam = (played.champion, *(v for v in top if v.name != played.champion.name))[:4]
        answers = tuple(rules.answer(played.champion, rules.rows))
        state = State(number, played.champion, beam, answers, rules.seed)
        proposed = rules.keep(
            f"round-{number}", partial(_propose, state, proposers, rules.width, set(seen), rules.allowed)
        )
        entrants = distinct(proposed, seen)
        if not entrants:
            played.ended = Message("no new prompt could be made")
            return played
        result = successive_halving(entrants, played.champion, rules.rows, rules.answer, rules.scored)
        _finish(played, number, result, began, rules.record)
    if not played.rounds[-1].complete:
        played.ended = SPENT
    return played


def _all(start: Variant, others: Sequence[Variant], rules: Rules) -> Halving:
    if rules.rounds > 0:
        return successive_halving(others, start, rules.rows, rules.answer, rules.scored)
    result = Halving()
    for variant in (start, *others):
        alone = successive_halving([], variant, rules.rows, rules.answer, rules.scored)
        result.places += alone.places
        result.complete &= alone.complete
    return result


def _propose(
    state: State, proposers: Sequence[Proposer], width: int, seen: set[str], allowed: Callable[[], bool]
) -> list[Variant]:
    """Up to ``width`` variants, the proposers taking turns."""
    share = -(-width // max(1, len(proposers))) + 1
    lists = [distinct(proposer(state, share), seen) for proposer in proposers if allowed()]
    # One that has no more leaves its turns to the others.
    turns = [variant for variant in chain.from_iterable(zip_longest(*lists)) if variant is not None]
    counts: Counter[str] = Counter()
    out = []
    for variant in turns[:width]:
        counts[variant.origin] += 1
        out.append(replace(variant, name=f"{variant.origin}-{state.round}.{counts[variant.origin]}"))
    return out


def _finish(played: Played, number: int, found: Halving, began: float, record: Callable[[Round], None]) -> None:
    before = played.champion
    for place in found.places:
        known = played.places.get(place.variant.name)
        if known is None or place.rows >= known.rows:
            played.places[place.variant.name] = place
    for place in found.places:
        if place.score is not None and better(place, played.places[played.champion.name]):
            played.champion = place.variant
    change = played.champion.change if played.champion.name != before.name else "nothing better was found"
    made = Round(
        number,
        before.name,
        played.champion.name,
        change if number or played.champion.name != before.name else "the start",
        _metric(played.places, before.name),
        _metric(played.places, played.champion.name),
        [_entrant(place) for place in found.places if place.variant.name != before.name],
        found.complete,
        round(time.monotonic() - began, 3),
    )
    played.rounds.append(made)
    record(made)


def _metric(places: Mapping[str, Standing], name: str) -> float:
    score = places[name].score
    return float("nan") if score is None else score.metric


def _entrant(place: Standing) -> dict[str, Any]:
    variant, score = place.variant, place.score
    return {
        "name": variant.name,
        "origin": variant.origin,
        "parent": variant.parent,
        "change": variant.change,
        "rows": place.rows,
        "metric": None if score is None else score.metric,
        "whole": place.whole,
        "refused": place.refused,
    }
