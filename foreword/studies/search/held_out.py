"""Which rows choose, which rows judge, and what may be said of the winner.

The best of K prompts on some rows is the best for those rows: its figure there is too high even when all K are equally
good (the winner's curse). The rows are divided before anything is asked. Search rows choose; held rows are asked once,
of the winner and of the user's prompt alone, so their figures are those of any two prompts on a fresh sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foreword.data.row import Row, references
from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare, figure_text, heading
from foreword.evaluation.statistics.differences import Difference
from foreword.messages import Message
from foreword.studies.prompts.successive_halving import fair_order


@dataclass(frozen=True)
class Pool:
    """The rows of a search.

    Args:
        rows: all rows that are asked.
        search: indices of those that choose, in a fair order.
        held: indices of those that judge.
        shown: training rows that are never asked: examples are taken from them.
        borrowed: how many of ``rows`` are training rows, because dev was small.
    """

    rows: tuple[Row, ...]
    search: tuple[int, ...]
    held: tuple[int, ...]
    shown: tuple[Row, ...]
    borrowed: int


def make_pool(train: Sequence[Row], dev: Sequence[Row], target: str, *, rows: int, held: float, seed: int) -> Pool:
    """Divide dev, and as many training rows as are missing (at most half of them), into search and held rows.

    Raises:
        DataError: too few rows for two parts.
    """

    def golds(found: Sequence[Row]) -> list[str]:
        return [(references(row.fields.get(target)) or ("",))[0] for row in found]

    # Only labels can be spread evenly; answers that are all different are drawn at random.
    def order(found: Sequence[Row], extra: int) -> list[int]:
        labels = golds(found)
        return fair_order(labels if len(set(labels)) * 2 <= len(labels) else [""] * len(labels), seed + extra)

    chosen = [dev[index] for index in order(dev, 0)[:rows]]
    drawn = order(train, 1)
    borrowed = max(0, min(rows - len(chosen), len(train) // 2))
    chosen += [train[index] for index in drawn[:borrowed]]
    shown = tuple(train[index] for index in sorted(drawn[borrowed:]))
    mixed = order(chosen, 2)
    count = round(held * len(chosen))
    if min(count, len(chosen) - count) < 2:
        raise DataError(
            "too few rows to search on some and judge on others",
            received=f"{len(chosen)} rows",
            hint="give more rows, or a larger --dev",
        )
    return Pool(tuple(chosen), tuple(mixed[count:]), tuple(mixed[:count]), shown, borrowed)


@dataclass(frozen=True)
class Gain:
    """Winner minus the user's prompt: ``honest`` on held rows, ``optimistic`` on the rows that chose the winner.

    Both are None when the user's prompt itself won.
    """

    metric: str
    honest: Difference | None = None
    optimistic: Difference | None = None

    @property
    def found(self) -> bool:
        """Whether the held rows show a gain: the interval lies on the better side of 0."""
        return self.honest is not None and self.honest.decided and self._better(self.honest)

    @property
    def lost(self) -> bool:
        """Whether the held rows show that the winner is worse than the prompt that it should replace."""
        return self.honest is not None and self.honest.decided and not self._better(self.honest)

    def _better(self, difference: Difference) -> bool:
        return (difference.estimate > 0) == (get_metric(self.metric).better == "higher")

    def sentence(self) -> str:
        """The verdict, for people."""
        if self.honest is None or self.optimistic is None:
            return Message("Keep your prompt: nothing that was tried beat it on the search rows.")
        facts = {"gain": self._gain(self.honest), "m": self.honest.rows, "optimistic": self._amount(self.optimistic)}
        if self.found:
            return Message(
                "The prompt that was found beats yours by {gain} on {m} rows that the search never saw ({optimistic} "
                "on the rows that chose it).",
                **facts,
            )
        if self.lost:
            return Message(
                "Keep your prompt: the best that was found is worse, by {gain} on {m} rows that the search never saw "
                "({optimistic} on the rows that chose it).",
                **facts,
            )
        return Message(
            "No gain beyond noise: the best prompt that was found differs from yours by {gain} on {m} rows that the "
            "search never saw ({optimistic} on the rows that chose it).",
            **facts,
        )

    def _amount(self, difference: Difference) -> Message:
        title = get_metric(self.metric).title
        name = title if title[1:2].isupper() else title[:1].lower() + title[1:]
        form = "{n} points of {metric}" if heading(self.metric).endswith("(%)") else "{n} {metric}"
        return Message(form, n=figure_text(self.metric, difference.estimate, True), metric=Message(name))

    def _gain(self, difference: Difference) -> Message:
        low, high = (
            figure_text(self.metric, value, True) for value in (difference.interval.low, difference.interval.high)
        )
        level = f"{100 * difference.interval.level:g}%"
        amount = self._amount(difference)
        return Message("{gain} ({level} interval {low} to {high})", gain=amount, level=level, low=low, high=high)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        parts = {"honest": self.honest, "optimistic": self.optimistic}
        return {
            "metric": self.metric,
            "found": self.found,
            **{name: None if one is None else one.to_json() for name, one in parts.items()},
        }


def gain(
    metric: str,
    winner: tuple[Sequence[Prediction], Sequence[Prediction]],
    start: tuple[Sequence[Prediction], Sequence[Prediction]],
) -> Gain:
    """Compare two prompts' answers, each given as (on held rows, on search rows)."""
    return Gain(metric, compare(winner[0], start[0], metric), compare(winner[1], start[1], metric))
