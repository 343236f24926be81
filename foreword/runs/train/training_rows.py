"""What a run learns from: its rows drawn and varied as the settings say, what that changed, what it gained on dev."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.quality.augment import with_template
from foreword.data.quality.row_sampling import TrainingRows
from foreword.data.tokens.examples import Example, eval_batches
from foreword.errors import DataError
from foreword.evaluation.report.summary import compare
from foreword.runs.prepare.augmentation import augmenter_of
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.prepare.ready_base import limit_of
from foreword.runs.prepare.start import longest_prefix
from foreword.runs.train.dev_score import DevScore
from foreword.training.gradual import Gradual
from foreword.training.loop import Trial
from foreword.training.lr_search import Sweep, search
from foreword.training.schedule import total_steps


def training_rows_of(prepared: Prepared) -> TrainingRows:
    """The order and the forms of a run's training rows."""
    settings, rows = prepared.request.settings, prepared.examples["train"]
    difficulty = _losses(prepared) if settings.sampling == "difficulty" else ()
    return TrainingRows(rows, settings.sampling, difficulty, _vary(prepared), _without_guidance(prepared))


def _without_guidance(prepared: Prepared) -> Callable[[int, int], Example | None] | None:
    """Which rows of a step are seen without the guidance, where it comes in gradually."""
    settings = prepared.request.settings
    if not prepared.plain:
        return None
    total = total_steps(len(prepared.examples["train"]), settings)
    return Gradual(prepared.plain["train"], settings.guidance_share, total, settings.seed)


def _losses(prepared: Prepared) -> list[float]:
    """-log p of each training row's answer (a token of it, where it is written) behind the text prompt."""
    rows, asker = prepared.examples["train"], prepared.asker
    prompt = Foreword(text=prepared.task.guidance)
    objective, found = asker.objective(prompt), [0.0] * len(rows)
    for batch in eval_batches(rows, asker.batch_size):
        chosen = [rows[index] for index in batch]
        with torch.no_grad(), injected(asker.model, [prompt]):
            outputs = objective.outputs(asker.model, chosen)
            losses = objective.losses(outputs, chosen, prompt)
        for place, index in enumerate(batch):
            found[index] = float(losses[outputs.rows == place].mean())
    return found


def _vary(prepared: Prepared) -> Callable[[int, int], Example | None] | None:
    request, base = prepared.request, prepared.base
    augmenter = augmenter_of(request.settings, prepared.task)
    if augmenter is None:
        return None
    rows, limit = prepared.tables["train"].rows, limit_of(base, request.settings.max_length)
    front = longest_prefix(prepared.start, prepared.method, base, prepared.asker)
    room, encoder = None if limit is None else limit - front, prepared.asker.encoder(request.task_options.first_k)

    # The rates of a sweep meet the same forms, and an epoch's rows come in any order.
    @lru_cache(maxsize=4 * len(rows))
    def vary(epoch: int, index: int) -> Example | None:
        made = augmenter.vary(rows[index], epoch)
        if made is None:
            return None
        try:
            changed = replace(encoder, task=with_template(prepared.task, made))
            [example] = changed.encode([replace(rows[index], fields=made.fields)], max_length=room)
        except DataError:  # longer than the base reads: the row stays as it is
            return None
        return example

    return vary


def facts_of(prepared: Prepared, trial: Trial | None) -> dict[str, Any]:
    """What sampling and augmentation did to the rows that the winner learned from; empty where they did nothing."""
    settings = prepared.request.settings
    facts: dict[str, Any] = {} if settings.sampling == "shuffle" else {"sampling": settings.sampling}
    augmenter = augmenter_of(settings, prepared.task)
    if augmenter is None or trial is None:
        return facts
    epochs, rows = math.ceil(trial.progress.step / trial.steps_per_epoch), prepared.tables["train"].rows
    places = [(epoch, index) for epoch in range(epochs) for index in range(len(rows))]
    forms = {(epoch, index): augmenter.vary(rows[index], epoch) for epoch, index in places}
    varied = {place: made for place, made in forms.items() if made}
    # A tokenizer may write both forms alike (without case, say), and a form that is too long is not taken.
    alike = sum(trial.course.row(epoch, index) == trial.course.rows[index] for epoch, index in varied)
    counts = {
        "rows_changed": len(varied),
        "of_rows": len(places),
        "words_changed": sum(made.words for made in varied.values()),
        "rows_read_alike": alike,
    }
    return {**facts, "augment": list(settings.augment), **counts}


def ablated(
    prepared: Prepared, folder: Path, dev: DevScore, found: Sweep, interrupted: Callable[[], bool]
) -> dict[str, Any]:
    """The winner once more without sampling and augmentation, both on dev: ``with``, ``without``, ``difference``.

    The same rate, seed and number of steps; its checkpoint is kept beside the others.
    """
    winner = found.trial
    assert winner is not None
    rows = TrainingRows(prepared.examples["train"], seen=_without_guidance(prepared))

    def make(rate: float) -> Trial:
        return prepared.trial(rows, rate, dev)

    plain = search([winner.learning_rate], make, folder / "ablation", lambda trial, event: None, interrupted).trial
    metric = prepared.task.metric
    facts: dict[str, Any] = {"metric": metric, "with": None, "without": None, "difference": None}
    answers = {}
    for name, trial in (("with", winner), ("without", plain)):
        if trial is not None and trial.progress.best is not None:
            facts[name] = trial.progress.best.metric
            answers[name] = prepared.asker.answer(trial.best(), prepared.examples["dev"])
    if len(answers) == 2:
        facts["difference"] = compare(answers["with"], answers["without"], metric).to_json()
    return facts
