"""What a distillation came to: how often the student says what the teacher says, what that saves, what it costs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import amount, compare, figure_text, heading
from foreword.evaluation.statistics.differences import Difference
from foreword.evaluation.statistics.intervals import wilson_interval
from foreword.messages import Message
from foreword.messages.spoken import say
from foreword.runs.train.dev_score import score_of
from foreword.runs.train.result import TrainResult
from foreword.storage import write_atomically
from foreword.studies.distill.settings import DistillSettings

NAME = "distill.json"


@dataclass(frozen=True)
class DistillResult:
    """What a distillation came to.

    Args:
        file: the ``.foreword`` file.
        systems: ``prompt``, ``start`` (the student before training), ``foreword`` and ``teacher``, each with ``tokens``
            in front of a row, ``agreement`` (share of rows with the teacher's answer: value, low, high), ``figure`` of
            the metric against the right answers (None where the rows had none) and ``ms`` a row (median).
        difference: foreword minus teacher on the metric, with the interval of 90% whose lower end decides; None where
            the rows had no right answers.
        prompt_gain: prompt minus teacher on the metric, with its 95% interval; None as above.
        gained: of what the teacher gains over the prompt, the share that the foreword gains; None where the teacher
            gains nothing.
        state: ``as_good``, ``worse`` (by more than the margin), ``cannot_tell``, or ``measured`` where only the
            agreement is known.
        rows: how many were asked.
        empty: rows left out because the teacher answered them with nothing.
        trained: what the training run came to.
    """

    file: str
    metric: str
    systems: dict[str, dict[str, Any]]
    difference: dict[str, Any] | None
    prompt_gain: dict[str, Any] | None
    gained: float | None
    margin: float
    state: str
    rows: int
    empty: int
    trained: TrainResult

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "trained": self.trained.to_json(), "verdict": str(self.verdict())}

    def verdict(self) -> str:
        """In two sentences, or three where the short prompt alone is better than the teacher."""
        short, long = self.systems["foreword"]["tokens"], self.systems["teacher"]["tokens"]
        share = self.systems["foreword"]["agreement"]
        saved = Message(
            "{short} tokens in front of a row instead of {long:,}, one in {times:.0f}; {share:.1f}% of the answers are "
            "the teacher's [{low:.1f}, {high:.1f}].",
            short=short, long=long, times=long / max(1, short), share=100 * share[0], low=100 * share[1],
            high=100 * share[2],
        )  # fmt: skip
        said = Message("{saved} {truth}", saved=saved, truth=self._truth())
        better = self._prompt_is_better()
        return said if better is None else Message("{said} {better}", said=said, better=better)

    def _prompt_is_better(self) -> Message | None:
        """That the teacher was not worth imitating, where the short prompt is shown to be better than it."""
        gain = self.prompt_gain
        if gain is None:
            return None
        low, high = gain["interval"]["low"], gain["interval"]["high"]
        if not (low > 0 if get_metric(self.metric).better == "higher" else high < 0):
            return None
        return Message(
            "The short prompt alone is better than this teacher: {metric} {difference} [{low}, {high}].",
            metric=Message(get_metric(self.metric).title), difference=amount(self.metric, gain["estimate"]),
            low=figure_text(self.metric, low, True), high=figure_text(self.metric, high, True),
        )  # fmt: skip

    def _truth(self) -> Message:
        margin = amount(self.metric, _points(self.metric, self.margin), signed=False)
        if self.difference is None:
            return Message("The rows have no right answers to compare them by.")
        values = {
            "metric": Message(get_metric(self.metric).title),
            "difference": amount(self.metric, self.difference["estimate"]),
            "low": figure_text(self.metric, self.difference["interval"]["low"], True),
            "high": figure_text(self.metric, self.difference["interval"]["high"], True),
            "margin": margin,
        }
        if self.state == "as_good":
            return Message(
                "As good within {margin}: {metric} {difference} [{low}, {high}] against the teacher.", **values
            )
        if self.state == "worse":
            return Message(
                "Worse by more than {margin}: {metric} {difference} [{low}, {high}] against the teacher.", **values
            )
        return Message(
            "These rows cannot tell whether it is as good within {margin}: {metric} {difference} [{low}, {high}] "
            "against the teacher.",
            **values,
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and lines: a line a system."""
        head = ["", "tokens", "same as the teacher (%)", str(heading(self.metric)), "ms a row"]
        lines = []
        for name, one in self.systems.items():
            share, low, high = one["agreement"]
            agreed = f"{100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            lines.append(
                [name, str(one["tokens"]), agreed, figure_text(self.metric, one["figure"]), f"{one['ms']:.1f}"]
            )
        return head, lines

    def render(self) -> str:
        """For people."""
        head, lines = self.table()
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
        text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in (head, *lines)]
        notes = (
            [Message("{n} row{n!p} left out: the teacher answered with nothing", n=self.empty)] if self.empty else []
        )
        return "\n".join([*text, *map(say, (self.verdict(), *notes, Message("saved {file}", file=self.file)))])


def write_result(
    trained: TrainResult, systems: Mapping[str, tuple[int, Sequence[Prediction]]], settings: DistillSettings,
    labelled: bool, empty: int, folder: Path,
) -> DistillResult:  # fmt: skip
    """Compare the systems' answers with the teacher's and the right ones, and write ``folder/distill.json``.

    Args:
        systems: name -> tokens in front of a row, and answers to the same rows.
        labelled: whether the rows have right answers of their own.
    """
    metric, teacher = trained.metric, systems["teacher"][1]
    same = {one.id: one.output for one in teacher}
    shown = {}
    for name, (tokens, answers) in systems.items():
        agreed = sum(one.output == same[one.id] for one in answers)
        interval = wilson_interval(agreed, len(answers))
        shown[name] = {
            "tokens": tokens,
            "agreement": [agreed / len(answers), interval.low, interval.high],
            "figure": _figure(metric, answers) if labelled else None,
            "ms": statistics.median(one.ms for one in answers),
        }
    answers = systems["foreword"][1]
    difference = compare(answers, teacher, metric, level=0.9) if labelled else None
    prompt_gain = compare(systems["prompt"][1], teacher, metric) if labelled else None
    result = DistillResult(
        trained.file, metric, shown, _json(difference), _json(prompt_gain), _gained(metric, shown),
        settings.margin, state_of(metric, difference, settings.margin), len(teacher), empty, trained,
    )  # fmt: skip
    text = json.dumps(result.to_json(), ensure_ascii=False, indent=1, default=str)
    write_atomically(folder / NAME, text.encode("utf-8", "backslashreplace"))
    return result


def _json(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else difference.to_json()


def _figure(metric: str, answers: Sequence[Prediction]) -> float:
    figure = score_of(metric, answers).metric
    return figure if get_metric(metric).better == "higher" else -figure


def _points(metric: str, margin: float) -> float:
    """The margin in the metric's own unit."""
    return margin / 100 if get_metric(metric).top == 1 and metric != "perplexity" else margin


def _gained(metric: str, systems: Mapping[str, Mapping[str, Any]]) -> float | None:
    figures = {name: systems[name]["figure"] for name in ("prompt", "foreword", "teacher")}
    if figures["teacher"] is None:
        return None
    sign = 1 if get_metric(metric).better == "higher" else -1
    gain = sign * (figures["teacher"] - figures["prompt"])
    return sign * (figures["foreword"] - figures["prompt"]) / gain if gain > 0 else None


def state_of(metric: str, difference: Difference | None, margin: float) -> str:
    """Two one-sided tests at 5%: is the foreword less than the margin worse than the teacher, or more?"""
    if difference is None:
        return "measured"
    low, high = difference.interval.low, difference.interval.high
    if get_metric(metric).better == "lower":
        low, high = -high, -low
    if low > -_points(metric, margin):
        return "as_good"
    return "worse" if high < -_points(metric, margin) else "cannot_tell"
