"""A text that answers like the foreword: searched on half of the rows by greedy choice, measured on the other half."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from foreword.core.inject.value import Foreword
from foreword.data.task.template import parsed
from foreword.data.tokens.examples import Example
from foreword.errors import DataError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.statistics.intervals import wilson_interval
from foreword.studies.prompts.prompt_scorer import standing

_ROUNDS = 2
_FEWEST = 4
_SHOWN = 4
"""Rows that stand in a text as examples, with the foreword's answers; they are searched on no more."""


@dataclass(frozen=True)
class Imitation:
    """The text that was found.

    Args:
        text: the guidance.
        equal: share of rows that it answers as the foreword does, on rows the search never saw; low, high: its 95%
            interval.
        rows: how many these were.
        prompt, prompt_equal, prompt_low, prompt_high: the same of the task's own prompt.
        tried: how many texts were tried.
    """

    text: str
    equal: float
    low: float
    high: float
    rows: int
    prompt: str
    prompt_equal: float
    prompt_low: float
    prompt_high: float
    tried: int


def imitate(
    asker: Asker, value: Foreword, rows: Sequence[Example], texts: Sequence[str], words: Sequence[str],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Imitation:  # fmt: skip
    """Search among ``texts``, then put some of ``words`` behind the best, as long as that helps.

    Raises:
        DataError: fewer than four rows.
    """
    if len(rows) < _FEWEST:
        raise DataError("too few rows to search on some and measure on others", expected="4 rows", received=len(rows))
    seen, held = rows[::2], rows[1::2]
    wanted = asker.answer(value, seen)
    shown = _shown(asker, wanted)
    examples = list(_with_examples(asker, [wanted[i] for i in shown]))
    texts = list(dict.fromkeys([asker.task.guidance, *texts, *examples]))
    asked = [place for place in range(len(seen)) if place not in shown]
    seen, wanted = [seen[place] for place in asked], [wanted[place] for place in asked]
    rounds = _ROUNDS if asker.task.kind == "classification" else 0
    total, tried = len(texts) + rounds * len(words), 0
    best, most = "", (-1.0, -math.inf)

    def better(candidates: Sequence[str]) -> bool:
        nonlocal best, most, tried
        before = best
        for text in candidates:
            found = _likeness(asker.answer(standing(asker, text), seen), wanted)
            tried += 1
            report(tried, total)
            if found > most:
                best, most = text, found
        return best != before

    better(texts)
    for _ in range(rounds):
        # A word more behind examples would be one in the last answer.
        if best in examples or not better([f"{best.rstrip()} {word}\n\n".lstrip(" ") for word in words]):
            break
    judged = asker.answer(value, held)
    prompt = asker.task.guidance
    found = [_equal(asker.answer(standing(asker, text), held), judged) for text in (best, prompt)]
    (equal, own), (first, last) = [wilson_interval(count, len(held)) for count in found], [n / len(held) for n in found]
    return Imitation(best, first, equal.low, equal.high, len(held), prompt, last, own.low, own.high, tried)


def _shown(asker: Asker, wanted: Sequence[Prediction]) -> list[int]:
    """Places of rows to show as examples, every answer in turn; none where there are few rows or no words to write."""
    task = asker.task
    if (
        task.kind != "classification"
        or task.masked
        or task.chat
        or parsed(task.template).soft
        or len(wanted) < 3 * _SHOWN
    ):
        return []
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(wanted):
        groups.setdefault(one.output, []).append(place)
    turns = [found[depth] for depth in range(_SHOWN) for found in groups.values() if depth < len(found)]
    return turns[:_SHOWN]


def _with_examples(asker: Asker, shown: Sequence[Prediction]) -> Iterator[str]:
    """The task's prompt with two, with four, and with four examples in the other order."""
    lines = [one.input + asker.task.verbalizer[one.output] for one in shown]
    for some in (lines[:2], lines, lines[::-1]) if lines else ():
        yield "\n\n".join([*([asker.task.guidance.rstrip()] if asker.task.guidance.strip() else []), *some, ""])


def _equal(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> int:
    return sum(one.output == other.output for one, other in zip(found, wanted, strict=True))


def _likeness(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> tuple[float, float]:
    """Share of equal answers; between equal shares, how probable the foreword's answers are."""
    logp = [one.scores.get(other.output, 0.0) for one, other in zip(found, wanted, strict=True)]
    return _equal(found, wanted) / len(found), sum(logp) / len(logp)
