"""Rows worth reading: those that changed sides between two systems, and the best and worst answers of the second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.messages import Message

WHY = ("won", "lost", "worst", "best", "other")
"""Why a row is worth reading, in the order of a report; ``other`` rows are only there to be looked up."""
MOST_OTHERS = 200


def why_text(why: str, first: str, last: str) -> Message:
    """The heading above rows that are shown for one reason; ``first`` and ``last`` are the two systems."""
    return {
        "won": Message("Better with {b} than with {a}", a=first, b=last),
        "lost": Message("Worse with {b} than with {a}", a=first, b=last),
        "worst": Message("Worst answers of {a}", a=last),
        "best": Message("Best answers of {a}", a=last),
        "other": Message("Other rows"),
    }[why]


def rows_to_read(systems: Mapping[str, Sequence[Prediction]], metric: str, most: int = 8) -> list[dict[str, Any]]:
    """Up to ``most`` rows of each kind of :data:`WHY` and 200 others, as a report's ``rows``; no row twice.

    Where an answer is simply right or wrong, the worst are the wrong ones that the model was surest of.

    Args:
        systems: name -> answers to the same rows; the first and the last are compared, the last is looked at closely.
        metric: name of the metric that says how good a row's answer is.
    """
    if not systems:
        return []
    names = list(systems)
    answers = {name: {p.id: p for p in found} for name, found in systems.items()}
    first, last = answers[names[0]], answers[names[-1]]
    good = {name: {i: quality(p, metric) for i, p in answers[name].items()} for name in (names[0], names[-1])}
    mine, theirs = good[names[-1]], good[names[0]]
    sure = {i: p.score if math.isfinite(p.score) else -math.inf for i, p in last.items()}
    moved = {i: mine[i] - theirs[i] for i in last if i in first and i in theirs}
    turn = sorted((i for i in moved if moved[i]), key=lambda i: (-abs(moved[i]), -sure[i]))
    order = sorted(last, key=lambda i: (mine[i], -sure[i]))
    picked = {
        "won": [i for i in turn if moved[i] > 0],
        "lost": [i for i in turn if moved[i] < 0],
        "worst": [i for i in order if mine[i] < most_of(metric)],
        "best": sorted((i for i in order if mine[i] != 0), key=lambda i: (-mine[i], -sure[i])),
    }
    out, seen = [], set[str]()
    for why, ids in picked.items():
        kept = [i for i in ids if i not in seen][:most]
        seen.update(kept)
        out += [_row(why, last[i], {name: answers[name][i] for name in names if i in answers[name]}) for i in kept]
    rest = [i for i in last if i not in seen][:MOST_OTHERS]
    return out + [_row("other", last[i], {n: answers[n][i] for n in names if i in answers[n]}) for i in rest]


def quality(prediction: Prediction, metric: str) -> float:
    """How good the answer to one row is, higher is better, 0 for a wrong one; perplexity: minus the loss of a token."""
    found = get_metric(metric)
    if metric == "perplexity":
        scores = prediction.scores
        return -scores[GOLD_NLL] / scores[GOLD_TOKENS] if scores.get(GOLD_TOKENS) else 0.0
    if found.kind == "classification":
        return float(prediction.output == prediction.gold)
    value = found.corpus([prediction.output], [prediction.accepted]) if found.sums is not None else 0.0
    return value if math.isfinite(value) else 0.0


def most_of(metric: str) -> float:
    """The quality of a row that could not be better."""
    return 0.0 if metric == "perplexity" else get_metric(metric).top


def _row(why: str, row: Prediction, answers: Mapping[str, Prediction]) -> dict[str, Any]:
    sure = {name: round(_probability(one), 4) for name, one in answers.items() if one.output in one.scores}
    outputs = {name: one.output for name, one in answers.items()}
    return {"id": row.id, "input": row.input, "gold": row.gold, "outputs": outputs, "sure": sure, "why": why}


def _probability(answer: Prediction) -> float:
    """Of an answer's score, which is a log-probability where it is below 0."""
    return math.exp(answer.score) if answer.score <= 0 else min(answer.score, 1.0)
