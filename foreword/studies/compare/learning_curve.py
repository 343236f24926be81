"""How much more labels would give: a power law through the scores with an eighth, a quarter, a half and all rows.

error(n) = a + b n^-c (Hestness et al. 2017), a and b at least 0, c from 0.1 to 1.5: few points bear no more freedom.
Chance is in it twice: another test set (a bootstrap over its rows, the same for every point) and another training at
each size, by as much as trainings differ (``run_spread``). A number of labels is given as an interval or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foreword.evaluation.metrics.metric_registry import Metric
from foreword.evaluation.report.summary import amount
from foreword.evaluation.statistics.intervals import resamples
from foreword.evaluation.statistics.run_spread import Prior, RunVariance, posterior, prior_of
from foreword.evaluation.statistics.sufficient_statistics import Array
from foreword.messages import Message

_POWERS = np.linspace(0.1, 1.5, 29)
_SEED, _STEPS = 13, 120
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


def learning_curve(
    metric: Metric, runs: Mapping[int, Sequence[Any]], references: Sequence[Any], margin: float,
    *, seen: Sequence[RunVariance] = (), n: int = 1000, level: float = 0.95,
) -> dict[str, Any]:  # fmt: skip
    """The curve of one method.

    Args:
        runs: training rows -> outputs on test, of one training each.
        margin: what a doubling of the rows has to give to be worth it, in the metric's unit; the gain that is asked
            about is twice as large.
        seen: what repeated trainings tell of how far they lie apart; without any, what is known of others counts.

    Returns:
        ``points`` [{rows, value}], ``law`` {a, b, c}, ``more`` (rows for that gain, ``wanted``; None where the
        interval has no upper end) with its interval ``more_low``, ``more_high`` (None: out of reach), ``enough``
        (rows from which a doubling gives less than ``margin`` at this level), ``expected`` [{rows, value, low,
        high}], ``sentence``.
    """
    counts = sorted(runs)
    tables = [metric.rows(runs[count], references) for count in counts]
    top, here, wanted = float(metric.top), counts[-1], 2 * margin
    scores = np.array([[float(metric.score(table.sum(axis=0))) for table in tables]])
    draws = np.concatenate(
        [
            np.stack([metric.score(drawn @ table) for table in tables], axis=1)
            for drawn in resamples(len(references), n, _SEED)
        ]
    )
    law = fit(counts, scores, top)
    prior = prior_of(metric, float(scores.mean()), len(references))
    laws = fit(counts, np.minimum(draws + _other_trainings(prior, seen, draws.shape), top), top)
    more, gain = _more(law, here, top, wanted), _more(laws, here, top, wanted)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(gain, tails, method="nearest")
    result: dict[str, Any] = {
        "metric": metric.name,
        "level": level,
        "points": [{"rows": count, "value": float(value)} for count, value in zip(counts, scores[0], strict=True)],
        "law": dict(zip("abc", map(float, law[0]), strict=True)),
        "wanted": wanted,
        "more": int(more[0]) if np.isfinite(more[0]) and np.isfinite(high) else None,
        "more_low": int(low) if np.isfinite(low) else None,
        "more_high": int(high) if np.isfinite(high) else None,
        "enough": _enough(laws, counts[0], here, top, margin, level),
        "expected": [_expected(law, laws, rows, top, level) for rows in (*counts, 2 * here, 4 * here)],
    }
    return {**result, "sentence": _sentence(metric, result, here)}


def _other_trainings(prior: Prior, seen: Sequence[RunVariance], shape: tuple[int, ...]) -> Array:
    """What other trainings on as many rows would have added to the scores ``[D, K]``: normal, by a standard deviation
    drawn from what is known of it."""
    rng = np.random.default_rng(_SEED)
    deviations = rng.choice(prior.deviations, shape[0], p=posterior(seen, prior))
    return np.asarray(np.minimum(deviations, 2 * prior.scale)[:, None] * rng.standard_normal(shape))


def _more(laws: Array, here: int, top: float, wanted: float) -> Array:
    """How many more rows than ``here`` each law ``[D, 3]`` needs for a gain of ``wanted``; infinite beyond the farthest
    that is followed."""
    steps = here * np.geomspace(1, _FARTHEST, _STEPS)
    scores = top - laws[:, :1] - laws[:, 1:2] * steps ** -laws[:, 2:]
    reached = scores >= scores[:, :1] + wanted
    first = reached.argmax(axis=1)
    return np.where(reached.any(axis=1), np.round(steps[first] - here), np.inf)


def _enough(laws: Array, least: int, here: int, top: float, margin: float, level: float) -> int | None:
    """The first number of rows at which a doubling gives less than ``margin``, by all laws but the upper tail."""
    for rows in np.geomspace(least, _FARTHEST * here, _STEPS):
        if np.quantile(at(laws, 2 * rows, top) - at(laws, rows, top), (1 + level) / 2) < margin:
            return round(float(rows))
    return None


def _expected(law: Array, laws: Array, rows: int, top: float, level: float) -> dict[str, float]:
    """What ``law`` expects with ``rows`` rows, with the interval that the resampled ``laws`` give."""
    low, high = np.quantile(at(laws, rows, top), [(1 - level) / 2, (1 + level) / 2])
    value = float(at(law, rows, top)[0])
    return {"rows": rows, "value": value, "low": min(float(low), value), "high": max(float(high), value)}


def _sentence(metric: Metric, found: Mapping[str, Any], here: int) -> str:
    wanted = amount(metric.name, found["wanted"])
    low, high = found["more_low"], found["more_high"]
    facts = {"gain": wanted, "level": f"{100 * found['level']:g}%", "k": len(found["points"]), "p": here}
    if low is None:
        form = "More labels are not expected to give {gain} ({level} interval, by {k} sizes up to {p} rows)"
        said = Message(form, **facts)
    elif high is None:
        form = (
            "How many more labels would give {gain} cannot be told: {n} or more ({level} interval, by {k} sizes up to "
            "{p} rows)"
        )
        said = Message(form, n=_round(low), **facts)
    else:
        form = "{n} to {m} more labels for {gain} ({level} interval, by {k} sizes up to {p} rows)"
        said = Message(form, n=_round(low), m=_round(high), **facts)
    if found["enough"] is None:
        return Message("{said}.", said=said)
    return Message("{said}; little to gain beyond {low}.", said=said, low=_round(found["enough"]))


def _round(count: int) -> str:
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{round(count / step) * step:,}"
