"""What points to a run that taught the model nothing."""

from __future__ import annotations

from collections import Counter

from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared
from foreword.training.loop import Score
from foreword.training.lr_search import Sweep

_GRAVE = frozenset({
    "the training loss did not move ({n} at first, {m} at last)",
    "the model gives the same answer to every dev row",
    "no better on dev than always saying the most frequent label ({n})",
})  # fmt: skip


def is_grave(alarm: str) -> bool:
    """Whether an alarm says that nothing was learned; others say what went wrong on the way."""
    return isinstance(alarm, Message) and alarm.id in _GRAVE


def alarms_of(prepared: Prepared, found: Sweep, floor: Score | None) -> list[str]:
    """What points to a run that taught the model nothing, one sentence each."""
    alarms: list[str] = [
        Message("learning rate {n}: {why}", n=f"{o.learning_rate:g}", why=o.failure) for o in found.results if o.failure
    ]
    alarms += found.notes
    trial = found.trial
    if trial is None:
        return alarms
    first, last = trial.first_and_last_loss()
    if trial.progress.step >= 8 and last > first * 0.995:
        start, end = f"{first:.4f}", f"{last:.4f}"
        alarms.append(Message("the training loss did not move ({n} at first, {m} at last)", n=start, m=end))
    best = trial.progress.best
    if best is not None and best.constant:
        alarms.append(Message("the model gives the same answer to every dev row"))
    if best is not None and prepared.task.kind == "classification":
        golds = [e.reference for e in prepared.examples["dev"]]
        label = Counter(golds).most_common(1)[0][0]
        majority = get_metric(prepared.task.metric).corpus([label] * len(golds), golds)
        if best.metric <= majority:
            alarms.append(
                Message("no better on dev than always saying the most frequent label ({n})", n=f"{majority:.3f}")
            )
    return alarms
