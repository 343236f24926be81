"""How good a foreword is on dev: it chooses checkpoints and learning rates, and measures the prompt to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foreword.core.value import Foreword
from foreword.data.batch import Example
from foreword.data.task import Task
from foreword.evaluation.answers import Asker, Report
from foreword.evaluation.metrics import DEFAULT_METRICS, get_metric
from foreword.training.loop import Score


@dataclass(frozen=True)
class DevScore:
    """Scores a foreword on ``rows`` by the task's metric, higher is better; ``report`` is told how far it is."""

    asker: Asker
    rows: Sequence[Example]
    report: Report = lambda done, total: None

    def __call__(self, value: Foreword) -> Score:
        metric = get_metric(self.asker.task.metric)
        if metric.name == "perplexity":
            loss = self.asker.mean_loss(value, self.rows)
            return Score(-math.exp(min(loss, 80.0)), loss)
        found = self.asker.answer(value, self.rows, self.report)
        figure = metric.corpus([p.output for p in found], [p.accepted for p in found])
        gold = [p.scores.get(p.gold, math.nan) for p in found]
        loss = self.asker.mean_loss(value, self.rows) if any(map(math.isnan, gold)) else -sum(gold) / len(gold)
        constant = len(found) > 1 and len({p.output for p in found}) == 1
        return Score(figure if metric.better == "higher" else -figure, loss, constant)


def metric_names(task: Task, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """What is told of a task: its own metric and what is asked for; () means the defaults of its kind."""
    defaults = DEFAULT_METRICS[task.kind]
    if not asked and task.metric in (*defaults, "perplexity"):
        return ()
    return tuple(dict.fromkeys((task.metric, *(asked or defaults))))
