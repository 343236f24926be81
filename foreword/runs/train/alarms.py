"""What points to a run that taught the model nothing.

An alarm that fires at good runs is not read, one that is silent at bad ones is worth nothing: ``bench/verdict.py``
plants failures and counts both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.tokens.examples import Example
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.statistics.association import entropy, unrelated_p
from foreword.runs.prepare.prepare import Prepared
from foreword.training.loop import Score, Trial
from foreword.training.lr_search import Sweep

UNKNOWN = 0.2
"""The share of a split's tokens that the tokenizer does not know from which it is told."""


def alarms_of(prepared: Prepared, found: Sweep, floor: Score | None) -> list[str]:
    """What the training and its evaluations on dev point to, one sentence each."""
    alarms = [f"learning rate {o.learning_rate:g}: {o.failure}" for o in found.results if o.failure] + found.notes
    alarms += unknown_text(prepared.examples["train"], getattr(prepared.asker.tokenizer, "unk_token_id", None))
    trial = found.trial
    if trial is None:
        return alarms
    alarms += _training(trial)
    labels = _labels(prepared.examples["train"])
    if prepared.task.kind == "classification" and len(set(labels)) == 1:
        alarms.append("every training row has the same label: there is nothing to learn")
    best = trial.progress.best
    if best is None:
        return alarms
    golds = _labels(prepared.examples["dev"])
    if prepared.task.kind == "classification" and len(set(golds)) < 2:
        return [*alarms, "dev has only one label: it can neither choose a learning rate nor tell what was learned"]
    if best.constant:
        alarms.append("the model gives the same answer to every dev row")
    if prepared.task.kind == "classification":
        alarms += _against_chance(best, golds, prepared.task.metric)
    return alarms


def _labels(examples: Sequence[Example]) -> list[str]:
    return [example.reference for example in examples]


def _training(trial: Trial) -> list[str]:
    """What the losses and gradients of the steps say."""
    steps, alarms = trial.progress.steps, []
    if steps and not any(step.gradient_norm for step in steps):
        alarms.append("the gradient was zero at every step: nothing was trained")
    first, last = trial.first_and_last_loss()
    if trial.progress.step >= 8 and last > first * 0.995:
        alarms.append(f"the training loss did not move ({first:.4f} at first, {last:.4f} at last)")
    return alarms


def _against_chance(best: Score, golds: Sequence[str], metric: str) -> list[str]:
    """Nothing was learned where the answers have nothing to do with the labels.

    Two signs have to agree, so that neither a small dev nor a confident model is enough: no more hits than answers
    dealt out at random have, and a loss no better than that of the labels' shares. Or no more hits than the most
    frequent label, and no trace of the labels in the answers.
    """
    majority = Counter(golds).most_common(1)[0][1] / len(golds)
    loss, chance = best.loss >= 0.98 * entropy(golds), best.unrelated
    if metric in ("accuracy", "micro_f1") and best.metric <= majority and chance > 0.05:
        return [f"no better on dev than always saying the most frequent label ({majority:.3f})"]
    if loss and chance > 0.001:
        return [f"the answers on dev have nothing to do with the labels (p = {chance:.3f})"]
    return []


def unknown_text(examples: Sequence[Example], unknown: int | None) -> list[str]:
    """Whether the tokenizer does not know the text: a wrong base for the language or the script."""
    total = sum(len(example.input_ids) for example in examples)
    count = sum(example.input_ids.count(unknown) for example in examples) if unknown is not None else 0
    if not total or count < UNKNOWN * total:
        return []
    return [f"{100 * count / total:.0f}% of the tokens of the training rows are unknown to the tokenizer"]


def alarms_on_test(answers: Mapping[str, Sequence[Prediction]], systems: Mapping[str, dict[str, Any]]) -> list[str]:
    """What the learned foreword's answers on test point to.

    Args:
        answers: predictions of each system on test.
        systems: their figures (``evaluation.report.summary.evaluate``).
    """
    if "foreword" not in systems:
        return []
    figures, rows = systems["foreword"], answers["foreword"]
    alarms = ["the model gives the same answer to every test row"] if figures["constant"] else []
    accuracy = figures["metrics"].get("accuracy")
    if accuracy is None or "baseline" not in figures:
        return alarms
    share, chance = figures["baseline"]["share"], unrelated_p([p.output for p in rows], [p.gold for p in rows])
    if accuracy["value"] <= share and chance > 0.05:
        alarms.append(f"no better on test than always saying the most frequent label ({share:.3f})")
    return alarms
