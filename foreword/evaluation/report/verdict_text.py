"""The verdict: one wording for each thing that figures can show.

| state | when | in three words |
|---|---|---|
| ``better`` | the interval of the difference lies above 0 | Use the foreword |
| ``worse`` | it lies below 0 | Keep your prompt |
| ``equal`` | two one-sided tests keep it inside the margin, and no reported metric says otherwise | Keep your prompt |
| ``not_better`` | a one-sided test rules out a gain of the margin | Keep your prompt |
| ``prompt_kept`` | nothing learned was above the prompt on dev | Keep your prompt |
| ``cannot_tell`` | none of these | Cannot tell |
| ``nothing_learned`` | an alarm, or no better than one answer for all rows | Nothing learned |
| ``measured`` | there was nothing to compare | Figures only |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.report.summary import amount, interval_text, signed_points
from foreword.evaluation.statistics.verdict import Comparison, default_margin
from foreword.messages import Message

State = Literal[
    "better", "worse", "equal", "not_better", "prompt_kept", "cannot_tell", "nothing_learned", "measured"
]  # fmt: skip

ANSWERS: dict[State, Message] = {
    "better": Message("Use the foreword"),
    "worse": Message("Keep your prompt"),
    "equal": Message("Keep your prompt"),
    "not_better": Message("Keep your prompt"),
    "prompt_kept": Message("Keep your prompt"),
    "cannot_tell": Message("Cannot tell"),
    "nothing_learned": Message("Nothing learned"),
    "measured": Message("Figures only"),
}
"""The verdict in three words at most."""


@dataclass(frozen=True)
class Verdict:
    """What a run or a comparison came to.

    Args:
        state: as in the table above.
        lines: sentences, the first of which says it all.
    """

    state: State
    lines: tuple[Message, ...]


def facts_of(comparison: Comparison, equal: bool = False) -> Message:
    """What stands in brackets behind a difference: interval, pairing, seeds, correction.

    Args:
        equal: the interval is that by which systems are judged to be equal.
    """
    interval = comparison.difference.interval
    if equal:
        level = (comparison.difference.equivalence or interval).level
        ends = interval_text(comparison.difference.metric, *comparison.equal_bounds, round(level, 6))
        return Message("{interval}, paired, {k} seed{k!p}", interval=ends, k=max(comparison.seeds))
    level = 1 - (1 - interval.level) * comparison.corrected_for
    ends = interval_text(comparison.difference.metric, *comparison.bounds, round(level, 6))
    seeds, family = max(comparison.seeds), comparison.corrected_for
    if family > 1:
        return Message(
            "{interval}, paired, {k} seed{k!p}, Holm-corrected for {m} comparisons", interval=ends, k=seeds, m=family
        )
    return Message("{interval}, paired, {k} seed{k!p}", interval=ends, k=seeds)


def _claimed(form: str, comparison: Comparison, a: str, b: str, turned: bool = False, **more: object) -> Message:
    metric, gain = comparison.difference.metric, comparison.gain
    parts = {
        "a": a,
        "b": b,
        "metric": Message(get_metric(metric).title),
        "gain": signed_points(metric, -gain if turned else gain),
        "facts": facts_of(comparison),
    }
    return Message(form, **{**parts, **more})


def state_of(main: Comparison, margin: float, others: Sequence[Comparison] = ()) -> State:
    """What the comparison shows.

    Args:
        margin: the difference that counts as none, in the metric's unit.
        others: the same two systems by the other metrics that are reported: where one of them shows a difference, they
            are not as good as each other.
    """
    low, high = main.equal_bounds
    if main.better:
        return "better"
    if main.worse:
        return "worse"
    if high >= margin:
        return "cannot_tell"
    if low <= -margin:
        return "not_better"
    return "cannot_tell" if any(one.better or one.worse for one in others) else "equal"


def sentences(
    main: Comparison, names: Mapping[str, str], margin: float | None = None, others: Sequence[Comparison] = ()
) -> Verdict:
    """What to do, first: whether ``main.a``, the best that was trained, is worth more than ``main.b``, the best prompt.

    Args:
        names: system -> how it is called in a sentence; ``b``'s with an article or possessive ("your best prompt").
        margin, others: as for :func:`state_of`.
    """
    metric = main.difference.metric
    least = default_margin(get_metric(metric)) if margin is None else margin
    trained, prompt = names[main.a], names[main.b]
    state = state_of(main, least, others)
    lines: list[Message] = []
    if state == "better":
        lines.append(_claimed("{a!c} is better than {b}: {metric} {gain} ({facts}).", main, trained, prompt))
        if main.bounds[1] < least:
            small = Message("That is less than the {gain} that were said to matter.", gain=amount(metric, least, False))
            lines.append(small)
    elif state == "worse":
        form = "Do not train: {a} is worse than {b}: {metric} {gain} ({facts})."
        lines.append(_claimed(form, main, trained, prompt))
    elif state == "equal":
        form = "Do not train: {a} is as good as {b}, within {margin}: {metric} {gain} ({facts})."
        facts = facts_of(main, equal=True)
        lines.append(_claimed(form, main, trained, prompt, margin=amount(metric, least, False), facts=facts))
    elif state == "not_better":
        form = "Do not train: {a} is not better than {b} by {margin} or more: {metric} {gain} ({facts})."
        facts = facts_of(main, equal=True)
        lines.append(_claimed(form, main, trained, prompt, margin=amount(metric, least, False), facts=facts))
    else:
        lines.append(_claimed("{a!c} cannot be told from {b}: {metric} {gain} ({facts}).", main, trained, prompt))
        lines.append(_visible(main, least))
    return Verdict(state, (*lines, *(by_another(one, trained, prompt) for one in others if one.better or one.worse)))


def plainly(comparison: Comparison, a: str, b: str) -> Message:
    """The comparison inside a sentence: better, worse, or not to be told."""
    if comparison.better:
        return _claimed("{a} is better than {b}: {metric} {gain} ({facts})", comparison, a, b)
    if comparison.worse:
        return _claimed("{a} is worse than {b}: {metric} {gain} ({facts})", comparison, a, b)
    return _claimed("{a} cannot be told from {b}: {metric} {gain} ({facts})", comparison, a, b)


def by_another(one: Comparison, a: str, b: str) -> Message:
    """What a metric that does not decide shows."""
    if one.better:
        return _claimed("By another metric {a} is better than {b}: {metric} {gain} ({facts}).", one, a, b)
    return _claimed("By another metric {a} is worse than {b}: {metric} {gain} ({facts}).", one, a, b)


def simpler_is_better(other: Comparison, names: Mapping[str, str]) -> Message:
    """A baseline (``other.a``) that is better than the best that was trained (``other.b``)."""
    form = "Do not train: {a} is better than {b}: {metric} {gain} ({facts})."
    return _claimed(form, other, names[other.a], names[other.b])


def _visible(main: Comparison, least: float) -> Message:
    """What these rows can show, and how many would show the difference that matters."""
    metric, rows = main.difference.metric, main.difference.rows
    seen, shown = amount(metric, main.detectable, False), amount(metric, least, False)
    if main.rows_needed is None:
        return Message(
            "{n} test rows show differences above {gain}; the seeds differ so much that more rows alone would not show "
            "{more}: train more seeds.",
            n=rows,
            gain=seen,
            more=shown,
        )
    if main.rows_needed <= rows:
        return Message("{n} test rows show differences above {gain}.", n=rows, gain=seen)
    return Message(
        "{n} test rows show differences above {gain}; to show {more}, you need about {m} rows.",
        n=rows,
        gain=seen,
        more=shown,
        m=_about(main.rows_needed),
    )


def _about(count: int) -> str:
    """Two digits that mean something."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / step) * step:,}"


def beside(other: Comparison, names: Mapping[str, str]) -> Message:
    """How another system stands beside the best one that was trained (``other.b``): "LoRA is +0.8 points more; the
    interval includes 0"."""
    metric, name = other.difference.metric, names[other.a]
    gain = amount(metric, abs(other.gain), False)
    if other.better or other.worse:
        facts = facts_of(other)
        if other.gain >= 0:
            return Message("{a!c} is {gain} more ({facts}).", a=name, gain=gain, facts=facts)
        return Message("{a!c} is {gain} less ({facts}).", a=name, gain=gain, facts=facts)
    ends = interval_text(metric, *other.bounds)
    if other.gain >= 0:
        return Message("{a!c} is {gain} more; the interval ({ends}) includes 0.", a=name, gain=gain, ends=ends)
    return Message("{a!c} is {gain} less; the interval ({ends}) includes 0.", a=name, gain=gain, ends=ends)
