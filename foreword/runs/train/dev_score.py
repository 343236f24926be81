"""How good a foreword is on dev: it chooses checkpoints and learning rates, and measures the prompt to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foreword.core.inject.value import Foreword
from foreword.data.task.label_sets import METRIC_ALIASES
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.evaluation.metrics.metric_registry import DEFAULT_METRICS, get_metric, moves
from foreword.evaluation.predict import Asker, Report
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.evaluation.report.summary import same_answers
from foreword.evaluation.statistics.association import unrelated_p
from foreword.evaluation.thresholds import at_thresholds, choose_thresholds
from foreword.training.loop import Score


@dataclass(frozen=True)
class DevScore:
    """Scores a foreword on ``rows`` by the task's metric, higher is better; ``report`` is told how far it is."""

    asker: Asker
    rows: Sequence[Example]
    report: Report = lambda done, total: None

    def __call__(self, value: Foreword) -> Score:
        if self.asker.task.metric == "perplexity":
            loss = self.asker.mean_loss(value, self.rows)
            return Score(-math.exp(min(loss, 80.0)), loss)
        found = self.asker.answer(value, self.rows, self.report)
        score = score_of(self.asker.task.metric, found)
        return score if math.isfinite(score.loss) else replace(score, loss=self.asker.mean_loss(value, self.rows))


def score_of(metric_name: str, found: Sequence[Prediction]) -> Score:
    """The score of some answers with their golds, higher is better; its loss is the mean -log p of the right answers
    (of their tokens, where they are written), ``nan`` where the answers do not tell. Where a row may have several
    labels, they are those above the thresholds that are best here."""
    metric = get_metric(metric_name)
    if metric.kind == "multilabel":
        found = at_thresholds(found, choose_thresholds(found))
    tokens = sum(p.scores.get(GOLD_TOKENS, math.nan) for p in found)
    if math.isfinite(tokens):
        loss = sum(p.scores[GOLD_NLL] for p in found) / max(1.0, tokens)
    else:
        loss = -sum(p.scores.get(p.gold, math.nan) for p in found) / len(found)
    if metric.name == "perplexity":
        return Score(-math.exp(min(loss, 80.0)), loss)
    figure = metric.corpus([p.output for p in found], [p.accepted for p in found])
    if figure == 0 and not moves(metric, [p.accepted for p in found]):
        metric = get_metric("exact_match")
        figure = metric.corpus([p.output for p in found], [p.accepted for p in found])
    constant = len(found) > 1 and same_answers([p.output for p in found], metric.kind)
    chance = unrelated_p([p.output for p in found], [p.gold for p in found]) if metric.kind == "classification" else 0.0
    return Score(figure if metric.better == "higher" else -figure, loss, constant, chance)


def with_thresholds(asker: Asker, value: Foreword, dev: Sequence[Example]) -> Asker:
    """The asker with the thresholds that are best for ``value`` on dev, where a row may have several labels."""
    if asker.task.kind != "multilabel":
        return asker
    thresholds = choose_thresholds(asker.answer(value, dev))
    return replace(asker, task=replace(asker.task, thresholds=thresholds))


def with_and_without(
    asker: Asker, guided: Sequence[Example], plain: Sequence[Example], systems: Mapping[str, Foreword]
) -> dict[str, dict[str, float]]:
    """The task's metric of each system on rows ``with`` the guidance and on the same rows ``without`` it."""
    kinds = {"with": guided, "without": plain}
    lower = get_metric(asker.task.metric).better == "lower"

    def figure(value: Foreword, rows: Sequence[Example]) -> float:
        found = DevScore(asker, rows)(value).metric
        return -found if lower else found

    return {kind: {name: figure(value, rows) for name, value in systems.items()} for kind, rows in kinds.items()}


def metric_names(task: Task, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """What is told of a task: its own metric and what is asked for; () means the defaults of its kind."""
    defaults = ("perplexity",) if task.plain else DEFAULT_METRICS[task.kind]
    if task.plain:
        return tuple(dict.fromkeys((*defaults, *asked)))
    if task.kind == "multilabel":
        asked = tuple(METRIC_ALIASES.get(name, name) for name in asked)
    if not asked and task.metric in (*defaults, "perplexity"):
        return ()
    return tuple(dict.fromkeys((task.metric, *(asked or defaults))))
