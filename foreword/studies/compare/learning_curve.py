"""How much more labels would give: a power law through the scores with an eighth, a quarter, a half and all rows.

error(n) = a + b n^-c (Hestness et al. 2017), a and b at least 0, c from 0.1 to 1.5: few points bear no more freedom.
The interval is a bootstrap over the test rows, the same rows for every point; another training set is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.report.summary import amount
from foreword.evaluation.statistics.intervals import resamples
from foreword.evaluation.statistics.sufficient_statistics import Array
from foreword.messages import Message

_POWERS = np.linspace(0.1, 1.5, 29)
_FARTHEST = 64
"""How many times the rows that there are a curve is followed; beyond, "never" is said."""


def fit(rows: Sequence[int], scores: Array, top: float) -> Array:
    """The law of each line of ``scores [D, K]`` at ``rows [K]``: a, b, c as ``[D, 3]``."""
    counts, errors = np.asarray(rows, dtype=np.float64), top - scores
    best, found = np.full(len(errors), np.inf), np.zeros((len(errors), 3))
    for power in _POWERS:
        shape = counts**-power
        centred = shape - shape.mean()
        slope = np.maximum(0.0, errors @ centred / (centred @ centred))
        floor = errors.mean(axis=1) - slope * shape.mean()
        # A negative floor is no error: then the line goes through 0.
        under = floor < 0
        slope = np.where(under, np.maximum(0.0, errors @ shape / (shape @ shape)), slope)
        floor = np.where(under, 0.0, floor)
        missed = ((errors - floor[:, None] - slope[:, None] * shape) ** 2).sum(axis=1)
        better = missed < best
        best = np.where(better, missed, best)
        found[better] = np.column_stack([floor, slope, np.full(len(errors), power)])[better]
    return found


def at(law: Array, rows: float, top: float) -> Array:
    """Scores ``[D]`` that the laws expect with ``rows`` rows."""
    return np.asarray(top - law[:, 0] - law[:, 1] * rows ** -law[:, 2])


def _first(law: Array, start: int, top: float, reached: Any) -> int | None:
    """The first number of rows, in steps of a tenth, at which ``reached(rows)`` holds; None beyond the farthest."""
    rows = float(start)
    while rows <= _FARTHEST * start:
        if reached(rows):
            return round(rows)
        rows *= 1.05
    return None


def learning_curve(
    metric: Metric, runs: Mapping[int, Sequence[Any]], references: Sequence[Any], wanted: float, margin: float,
    *, n: int = 400, level: float = 0.95,
) -> dict[str, Any]:  # fmt: skip
    """The curve of one method.

    Args:
        runs: training rows -> outputs on test.
        wanted: the gain that is asked about, in the metric's unit.
        margin: what a doubling of the rows has to give to be worth it.

    Returns:
        ``points`` [{rows, value}], ``law`` {a, b, c}, ``more`` (rows for ``wanted``; None: out of reach) with its
        interval ``more_low``, ``more_high``, ``enough`` (rows from which a doubling gives less than ``margin``),
        ``expected`` [{rows, value, low, high}], ``sentence``.
    """
    counts = sorted(runs)
    tables = [metric.rows(runs[count], references) for count in counts]
    top = float(metric.top)
    scores = np.array([[float(metric.score(table.sum(axis=0))) for table in tables]])
    draws = np.concatenate(
        [
            np.stack([metric.score(drawn @ table) for table in tables], axis=1)
            for drawn in resamples(len(references), n, 13)
        ]
    )
    law, laws = fit(counts, scores, top), fit(counts, draws, top)
    here = counts[-1]

    def more(one: Array) -> int | None:
        goal = at(one, here, top)[0] + wanted
        found = _first(one, here, top, lambda rows: at(one, rows, top)[0] >= goal)
        return None if found is None else found - here

    enough = _first(
        law, counts[0], top, lambda rows: at(law, 2 * rows, top)[0] - at(law, rows, top)[0] < margin
    )  # fmt: skip
    every = [more(laws[place : place + 1]) for place in range(0, len(laws), max(1, len(laws) // 100))]
    ends = np.quantile(
        [np.inf if one is None else one for one in every], [(1 - level) / 2, (1 + level) / 2], method="nearest"
    )
    found: dict[str, Any] = {
        "metric": metric.name,
        "points": [{"rows": count, "value": float(value)} for count, value in zip(counts, scores[0], strict=True)],
        "law": dict(zip("abc", map(float, law[0]), strict=True)),
        "wanted": wanted,
        "more": more(law),
        "more_low": None if np.isinf(ends[0]) else int(ends[0]),
        "more_high": None if np.isinf(ends[1]) else int(ends[1]),
        "enough": enough,
        "expected": [_expected(law, laws, rows, top, level) for rows in (*counts, 2 * here, 4 * here)],
    }
    return {**found, "sentence": _sentence(metric, found, here)}


def _expected(law: Array, laws: Array, rows: int, top: float, level: float) -> dict[str, float]:
    """What ``law`` expects with ``rows`` rows, with the interval that the resampled ``laws`` give."""
    low, high = np.quantile(at(laws, rows, top), [(1 - level) / 2, (1 + level) / 2])
    return {"rows": rows, "value": float(at(law, rows, top)[0]), "low": float(low), "high": float(high)}


def _sentence(metric: Metric, found: Mapping[str, Any], here: int) -> str:
    wanted = amount(metric.name, found["wanted"])
    low, high = found["more_low"], found["more_high"]
    facts = {"gain": wanted, "k": len(found["points"]), "m": here, "level": "95%"}
    if low is not None:
        facts |= {"a": _round(low), "b": Message("out of reach") if high is None else _round(high)}
    if found["more"] is not None:
        said = Message(
            "About {n} more labels for {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows)",
            n=_round(found["more"]), **facts,
        )  # fmt: skip
    elif low is not None:
        said = Message(
            "More labels are not expected to give {gain} ({level} interval {a} to {b}, by {k} sizes up to {m} rows)",
            **facts,
        )
    else:
        said = Message(
            "More labels are not expected to give {gain} anywhere in the {level} interval (by {k} sizes up to {m} "
            "rows)",
            **facts,
        )
    if found["enough"] is None:
        return Message("{said}.", said=said)
    return Message("{said}; little to gain beyond {p}.", said=said, p=_round(found["enough"]))


def _round(count: int) -> str:
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{round(count / step) * step:,}"
