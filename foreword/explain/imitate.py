"""A text that answers like the foreword: searched on half of the rows by greedy choice, measured on the other half."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foreword.core.value import Foreword
from foreword.data.batch import Example
from foreword.errors import DataError
from foreword.evaluation.answers import Asker
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.statistics import wilson_interval

_ROUNDS = 2
_FEWEST = 4


@dataclass(frozen=True)
class Imitation:
    """The text that was found.

    Args:
        text: the guidance.
        equal: share of rows that it answers as the foreword does, on rows the search never saw; low, high: its 95%
            interval.
        rows: how many these were.
        prompt_equal: the same share of the task's own prompt.
        tried: how many texts were tried.
    """

    text: str
    equal: float
    low: float
    high: float
    rows: int
    prompt_equal: float
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
    rounds = _ROUNDS if asker.task.kind == "classification" else 0
    total, tried = len(texts) + rounds * len(words), 0
    best, most = "", (-1.0, -math.inf)

    def better(candidates: Sequence[str]) -> bool:
        nonlocal best, most, tried
        before = best
        for text in candidates:
            found = _likeness(asker.answer(Foreword(text=text), seen), wanted)
            tried += 1
            report(tried, total)
            if found > most:
                best, most = text, found
        return best != before

    better(list(dict.fromkeys([asker.task.guidance, *texts])))
    for _ in range(rounds):
        if not better([f"{best.rstrip()} {word}\n\n".lstrip(" ") for word in words]):
            break
    judged = asker.answer(value, held)
    equal = _equal(asker.answer(Foreword(text=best), held), judged)
    own = _equal(asker.answer(Foreword(text=asker.task.guidance), held), judged)
    interval = wilson_interval(equal, len(held))
    share = equal / len(held)
    return Imitation(best, share, interval.low, interval.high, len(held), own / len(held), tried)


def _equal(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> int:
    return sum(one.output == other.output for one, other in zip(found, wanted, strict=True))


def _likeness(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> tuple[float, float]:
    """Share of equal answers; between equal shares, how probable the foreword's answers are."""
    logp = [one.scores.get(other.output, 0.0) for one, other in zip(found, wanted, strict=True)]
    return _equal(found, wanted) / len(found), sum(logp) / len(logp)
