"""What points to a run that taught the model nothing."""

from __future__ import annotations

from collections import Counter

from foreword.runs.prepare.prepare import Prepared
from foreword.training.loop import Score
from foreword.training.lr_search import Sweep


def alarms_of(prepared: Prepared, found: Sweep, floor: Score | None) -> list[str]:
    """What points to a run that taught the model nothing, one sentence each."""
    alarms = [f"learning rate {o.learning_rate:g}: {o.failure}" for o in found.results if o.failure] + found.notes
    trial = found.trial
    if trial is None:
        return alarms
    first, last = trial.first_and_last_loss()
    if trial.progress.step >= 8 and last > first * 0.995:
        alarms.append(f"the training loss did not move ({first:.4f} at first, {last:.4f} at last)")
    best = trial.progress.best
    if best is not None and best.constant:
        alarms.append("the model gives the same answer to every dev row")
    if best is not None and prepared.task.metric == "accuracy":
        golds = Counter(e.gold for e in prepared.examples["dev"])
        majority = golds.most_common(1)[0][1] / golds.total()
        if best.metric <= majority:
            alarms.append(f"no better on dev than always saying the most frequent label ({majority:.3f})")
    return alarms
