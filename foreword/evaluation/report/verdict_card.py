"""The verdict's card: an answer in three words, two figures, the difference as a bar, and what to be careful about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.report import charts
from foreword.evaluation.report.blocks import Card
from foreword.evaluation.report.report_types import Report
from foreword.evaluation.report.summary import figure_text, footnote, heading
from foreword.evaluation.report.verdict_text import ANSWERS, State
from foreword.messages import Message

_TONES: dict[State, Literal["good", "open", "keep", "bad"]] = {
    "better": "good",
    "cannot_tell": "open",
    "measured": "open",
    "worse": "keep",
    "equal": "keep",
    "not_better": "keep",
    "prompt_kept": "keep",
    "nothing_learned": "bad",
}


def card_of(report: Report, called: Callable[[str], str]) -> Card | None:
    """The card of a report with a verdict; without a state it is only the sentences."""
    if report.verdict is None:
        return None
    ours = getattr(called, "translator").ours  # noqa: B009
    lines = [ours(line) for line in report.verdict_lines if line != report.verdict]
    if report.gate:
        lines.append(_gate(report.gate))
    lines += [ours(warning) for warning in report.warnings]
    state: State = report.state or "measured"
    metric, difference = report.deciding(), _difference(report)
    figures, bar, below = [], "", ""
    if metric in METRICS:
        systems = {name: report.systems[name]["metrics"].get(metric) for name in report.compared()[:2]}
        figures = [(called(name), figure_text(metric, one["value"])) for name, one in systems.items() if one]
    if difference is not None and _is_drawn(difference):
        name = str(difference["metric"])
        ends = {**difference["interval"], "estimate": difference["estimate"]}
        bar = charts.difference(ends, lambda value: figure_text(name, value, True))
        below = footnote(difference)
    return Card(
        ANSWERS[state] if report.state else "",
        _TONES[state],
        Message("{text!c}", text=ours(report.verdict)),
        lines,
        figures,
        heading(metric) if metric in METRICS else "",
        bar,
        below,
    )


def _is_drawn(difference: Mapping[str, Any]) -> bool:
    values = (difference["estimate"], difference["interval"]["low"], difference["interval"]["high"])
    return difference["metric"] in METRICS and all(value is not None for value in values)


def _gate(gate: Mapping[str, Any]) -> Message:
    if gate["met"]:
        return Message("Met: {text} ({said})", text=gate["text"], said=gate["said"])
    return Message("Not met: {text} ({said})", text=gate["text"], said=gate["said"])


def _difference(report: Report) -> Mapping[str, Any] | None:
    """The difference that the verdict is about: a run's own, or the comparison of the two systems chosen on dev."""
    if report.difference is not None:
        return report.difference
    worth = (report.more.get("comparisons") or {}).get("worth") or []
    return next((one for one in worth if one["a"] == report.chosen_on_dev.get("trained")), None)
