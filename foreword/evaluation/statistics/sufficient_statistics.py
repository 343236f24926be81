"""Metrics as sums: each row gives S numbers, their sum over rows gives the score.

Accuracy, F1, BLEU, chrF, ROUGE and perplexity are all of this kind. It is what makes ten thousand
resamples cheap: a resample is a matrix product of row counts and row statistics.

Letters: N rows, S statistics a row, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreword.errors import DataError

Array = NDArray[np.float64]
MAX_CELLS = 10_000_000


@dataclass(frozen=True)
class SumStatistic:
    """A corpus score that sees its rows only through a sum.

    Args:
        rows: (outputs, references) -> ``[N, S]``.
        score: sums ``[..., S]`` -> scores ``[...]``.
    """

    rows: Callable[[Sequence[Any], Sequence[Any]], Array]
    score: Callable[[Array], Array]


def alternatives(reference: object) -> list[str]:
    """The texts that count as right: a reference is one text or several."""
    if isinstance(reference, str):
        return [reference]
    if isinstance(reference, Sequence) and reference and all(isinstance(text, str) for text in reference):
        return list(reference)
    raise DataError("a row has no reference", expected="a text or a list of texts", received=repr(reference))


def ratio(over: Array, under: Array) -> Array:
    """Elementwise division that gives 0 where there is nothing to divide by."""
    return np.divide(over, under, out=np.zeros_like(over), where=under != 0)


def mean_of(value: Callable[[str, list[str]], float]) -> SumStatistic:
    """The mean over rows of one figure a row; statistics are (figure, 1), S = 2."""

    def rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
        figures = [value(o, alternatives(r)) for o, r in zip(outputs, references, strict=True)]
        return np.column_stack([np.asarray(figures, dtype=np.float64), np.ones(len(figures))])

    return SumStatistic(rows, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def _class_rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    golds = [alternatives(reference)[0] for reference in references]
    classes = {name: place for place, name in enumerate(sorted({*golds, *outputs}))}
    if len(golds) * len(classes) > MAX_CELLS:
        raise DataError(
            "too many different answers for an F1 over classes",
            received=f"{len(classes)} different labels in {len(golds)} rows",
            hint="use exact_match or rouge_l for free text",
        )
    table = np.zeros((len(golds), len(classes), 3))
    for place, (output, gold) in enumerate(zip(outputs, golds, strict=True)):
        table[place, classes[output], 1] = 1
        table[place, classes[gold], 2] = 1
        if output == gold:
            table[place, classes[gold], 0] = 1
    return table.reshape(len(golds), -1)


def macro(sums: Array) -> Array:
    """F1 averaged over the classes that occur, of sums of hits, said and gold a class ``[..., 3 C]``."""
    hit, said, gold = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    present = (said + gold) > 0
    return ratio(np.sum(ratio(2 * hit, said + gold), axis=-1), present.sum(axis=-1).astype(np.float64))


MACRO_F1 = SumStatistic(_class_rows, macro)
"""F1 averaged over the classes that occur among outputs or references, as scikit-learn's ``average="macro"``;
S = 3 C: hits, said, gold. In a resample, a class that does not occur is not averaged over."""


def _likelihood_rows(outputs: Sequence[Any], references: Sequence[Any]) -> Array:
    rows = np.column_stack([np.asarray(outputs, dtype=np.float64), np.asarray(references, dtype=np.float64)])
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise DataError("the likelihood of a row is not a finite number", where=f"row {wrong[0] + 1}")
    return rows


def _perplexity(sums: Array) -> Array:
    tokens = sums[..., 1]
    mean = np.divide(sums[..., 0], tokens, out=np.full_like(tokens, np.inf), where=tokens > 0)
    # A hopeless model overflows to infinity, which is the right answer and no cause for a warning.
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(mean), dtype=np.float64)


PERPLEXITY = SumStatistic(_likelihood_rows, _perplexity)
"""exp of the mean negative log-likelihood a token; outputs are total nats a row, references token counts; S = 2."""
