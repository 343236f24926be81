"""What a foreword does where it was not meant to stand: in front of neutral text, and of another task's rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

import torch

from foreword.core.inject.value import EMPTY, Foreword
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.errors import ForewordError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predict import Asker
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared

LANGUAGES = ("en", "zh")
# Tokens of a passage that are given; the rest is what the perplexity is measured on.
_GIVEN = 8
_MOST_ROWS = 100


def passages(language: str) -> list[str]:
    """The neutral text of a language that comes with the package, a passage each."""
    text = (
        resources.files("foreword.studies.compare").joinpath("neutral", f"{language}.txt").read_text(encoding="utf-8")
    )
    return [passage.strip() for passage in text.split("\n\n") if passage.strip()]


def _neutral(prepared: Prepared, language: str) -> tuple[Asker, list[Example]]:
    """The passages as text to be continued; in windows that the base can read."""
    base = prepared.base
    task = Task("generation", "{{ text }}", "", "rest")
    asker = replace(prepared.asker, task=task, batch_size=4)
    room = min(160, (base.context or 400) // 2)
    rows = []
    for number, passage in enumerate(passages(language)):
        ids = tuple(base.tokenizer(passage, add_special_tokens=False)["input_ids"])[:room]
        if len(ids) > _GIVEN:
            rows.append(Example(f"{language}-{number}", ids[:_GIVEN], ids[_GIVEN:], -1, passage))
    return asker, rows


def measured(prepared: Prepared) -> str | None:
    """Why the perplexity of neutral text cannot be measured, None where it can."""
    if prepared.base.kind != "decoder":
        return Message("the base is an {word}: it does not continue text", word=prepared.base.kind)
    return None


def drift(prepared: Prepared, values: Mapping[str, Foreword]) -> dict[str, Any]:
    """Perplexity of the neutral passages: of the base alone, and with each foreword in front.

    Returns:
        language -> {"base": perplexity, "systems": {name: {"perplexity", "drift"}}}; the drift is a share: 0.05 is 5%
        more.
    """
    out: dict[str, Any] = {}
    for language in LANGUAGES:
        asker, rows = _neutral(prepared, language)
        if not rows:
            continue
        plain = math.exp(min(asker.mean_loss(EMPTY, rows), 80.0))
        systems = {}
        for name, value in values.items():
            found = math.exp(min(asker.mean_loss(value, rows), 80.0))
            systems[name] = {"perplexity": found, "drift": found / plain - 1}
        out[language] = {"base": plain, "passages": len(rows), "systems": systems}
    return out


def behaviour(prepared: Prepared) -> str:
    """SHA-256 of what the base computes for some rows without any foreword: bit-equal answers have one digest."""
    model = prepared.base.model
    digest = hashlib.sha256()
    for row in prepared.examples["dev"][:4]:
        ids = torch.tensor([row.input_ids[:64]], device=model.device)
        inputs = {"decoder_input_ids": ids[:, :1]} if prepared.base.kind == "encoder-decoder" else {}
        with torch.no_grad():
            found = model(input_ids=ids, **inputs)
        digest.update(found[0].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def elsewhere(prepared: Prepared, data: str, values: Mapping[str, Foreword]) -> dict[str, Any]:
    """Another task, asked by its own prompt: alone, and with each foreword in front of that prompt."""
    table = read(data)
    task = make_task(table)
    if task.kind == "tagging" or prepared.base.kind == "encoder":
        return {"reason": Message("that task has no prompt that this base could answer")}
    asker = replace(prepared.asker, task=task)
    try:
        rows = asker.encoder().encode(table.rows[:_MOST_ROWS], max_length=prepared.base.context)
    except ForewordError as problem:
        return {"reason": problem.problem}
    # The prompt becomes part of the row, behind whatever stands in front.
    lead, plain = asker.lead(Foreword(text=task.guidance)), asker.lead(EMPTY)
    lead = lead[len(plain) :] if lead[: len(plain)] == plain else lead
    rows = [replace(row, input_ids=(*lead, *row.input_ids)) for row in rows]
    metric = get_metric(task.metric)
    found = {}
    for name, value in {"base": EMPTY, **values}.items():
        answers = asker.answer(replace(value, head={}), rows)
        found[name] = metric.corpus([p.output for p in answers], [p.accepted for p in answers])
    alone = found.pop("base")
    return {
        "data": table.name,
        "rows": len(rows),
        "metric": metric.name,
        "base": alone,
        "systems": {name: {"value": value, "change": value - alone} for name, value in found.items()},
    }
