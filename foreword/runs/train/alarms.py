"""What points to a run that taught the model nothing.

An alarm that fires at good runs is not read, one that is silent at bad ones is worth nothing: ``bench/verdict.py``
plants failures and counts both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.tokens.examples import Example
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.statistics.association import entropy, unrelated_p
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared
from foreword.training.loop import Score, Trial
from foreword.training.lr_search import Sweep

UNKNOWN = 0.2
"""The share of a split's tokens that the tokenizer does not know from which it is told."""
_GRAVE = frozenset({
    "the gradient was zero at every step: nothing was trained",
    "the training loss did not move ({n} at first, {m} at last)",
    "the model gives the same answer to every dev row",
    "no better on dev than always saying the most frequent label ({n})",
    "the answers on dev have nothing to do with the labels (p = {n})",
})  # fmt: skip


def is_grave(alarm: str) -> bool:
    """Whether an alarm says that nothing was learned; others say what went wrong on the way."""
    return isinstance(alarm, Message) and alarm.id in _GRAVE


def alarms_of(prepared: Prepared, found: Sweep, floor: Score | None) -> list[str]:
    """What the training and its evaluations on dev point to, one sentence each."""
    alarms: list[str] = [
        Message("learning rate {n}: {why}", n=f"{o.learning_rate:g}", why=o.failure) for o in found.results if o.failure
    ]
    alarms += found.notes
    alarms += unknown_text(prepared.examples["train"], getattr(prepared.asker.tokenizer, "unk_token_id", None))
    trial = found.trial
    if trial is None:
        return alarms
    alarms += _training(trial)
    labels = _labels(prepared.examples["train"])
    if prepared.task.kind == "classification" and len(set(labels)) == 1:
        alarms.append(Message("every training row has the same label: there is nothing to learn"))
    best = trial.progress.best
    if best is None:
        return alarms
    golds = _labels(prepared.examples["dev"])
    if prepared.task.kind == "classification" and len(set(golds)) < 2:
        blind = Message("dev has only one label: it can neither choose a learning rate nor tell what was learned")
        return [*alarms, blind]
    if best.constant:
        alarms.append(Message("the model gives the same answer to every dev row"))
    if prepared.task.kind == "classification":
        alarms += _against_chance(best, golds, prepared.task.metric)
    return alarms


def _labels(examples: Sequence[Example]) -> list[str]:
    return [example.reference for example in examples]


def _training(trial: Trial) -> list[str]:
    """What the losses and gradients of the steps say."""
    steps = trial.progress.steps
    alarms: list[str] = []
    if steps and not any(step.gradient_norm for step in steps):
        alarms.append(Message("the gradient was zero at every step: nothing was trained"))
    first, last = trial.first_and_last_loss()
    if trial.progress.step >= 8 and last > first * 0.995:
        start, end = f"{first:.4f}", f"{last:.4f}"
        alarms.append(Message("the training loss did not move ({n} at first, {m} at last)", n=start, m=end))
    return alarms


def _against_chance(best: Score, golds: Sequence[str], metric: str) -> list[str]:
    """Nothing was learned where the answers have nothing to do with the labels.

    Two signs have to agree, so that neither a small dev nor a confident model is enough: no more hits than answers
    dealt out at random have, and a loss no better than that of the labels' shares. Or no higher a figure than the most
    frequent label has, and no trace of the labels in the answers.
    """
    label = Counter(golds).most_common(1)[0][0]
    majority = get_metric(metric).corpus([label] * len(golds), golds)
    if best.metric <= majority and best.unrelated > 0.05:
        return [Message("no better on dev than always saying the most frequent label ({n})", n=f"{majority:.3f}")]
    if best.loss >= 0.98 * entropy(golds) and best.unrelated > 0.001:
        chance = f"{best.unrelated:.3f}"
        return [Message("the answers on dev have nothing to do with the labels (p = {n})", n=chance)]
    return []


def unknown_text(examples: Sequence[Example], unknown: int | None) -> list[str]:
    """Whether the tokenizer does not know the text: a wrong base for the language or the script."""
    total = sum(len(example.input_ids) for example in examples)
    count = sum(example.input_ids.count(unknown) for example in examples) if unknown is not None else 0
    if not total or count < UNKNOWN * total:
        return []
    share = f"{100 * count / total:.0f}%"
    return [Message("{share} of the tokens of the training rows are unknown to the tokenizer", share=share)]


def alarms_on_test(answers: Mapping[str, Sequence[Prediction]], systems: Mapping[str, dict[str, Any]]) -> list[str]:
    """What the learned foreword's answers on test point to.

    Args:
        answers: predictions of each system on test.
        systems: their figures (``evaluation.report.summary.evaluate``).
    """
    if "foreword" not in systems:
        return []
    figures, rows = systems["foreword"], answers["foreword"]
    alarms: list[str] = []
    if figures["constant"]:
        alarms.append(Message("the model gives the same answer to every test row"))
    accuracy = figures["metrics"].get("accuracy")
    if accuracy is None or "baseline" not in figures:
        return alarms
    share, chance = figures["baseline"]["share"], unrelated_p([p.output for p in rows], [p.gold for p in rows])
    if accuracy["value"] <= share and chance > 0.05:
        said = f"{share:.3f}"
        alarms.append(Message("no better on test than always saying the most frequent label ({n})", n=said))
    return alarms
