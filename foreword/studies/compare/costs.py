"""What a system costs: values, bytes, work, latency, tokens, price. Nothing here decides anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.core.passes.flops import weights
from foreword.data.tokens.examples import Example
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction
from foreword.runs.prepare.prepare import Prepared
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.prompts.variant import Variant

# Rows that are timed one at a time.
_TIMED = 5
# Above this share of the base's weights, their gradients are computed too, and not only those of the activations.
_WHOLE = 0.05


def work(prepared: Prepared, record: Mapping[str, Any], read: float, written: float) -> dict[str, float]:
    """Floating point operations by the usual count of 2 a weight and token: a row answered, and the whole training.

    Backward through a frozen base computes the gradients of its activations only: 2 more; where weights are trained 4.
    """
    size = weights(prepared.base.model)
    row = 2.0 * size * (read + written)
    settings = prepared.request.settings
    batch = settings.batch_rows * settings.gradient_accumulation_steps
    tokens = [len(e.input_ids) + len(e.target_ids) for e in prepared.examples["train"]]
    mean = sum(tokens) / max(1, len(tokens)) + record.get("lead_tokens", 0)
    each = 6.0 if record.get("trained_values", 0) > _WHOLE * size else 4.0
    return {"row": row, "training": each * size * mean * batch * record.get("steps_of_search", 0)}


def asked(prepared: Prepared, variant: Variant, limit: int) -> tuple[Asker, Foreword, list[Example]]:
    """A prompt as it would be sent, as tokens in front of every row, and the first ``limit`` rows for it."""
    shown = {row.id: row for row in prepared.tables["train"].rows}
    task = variant.asked(prepared.task, shown)
    asker = replace(prepared.asker, task=task)
    table = prepared.tables.get("test", prepared.tables["dev"])
    rows = asker.encoder(prepared.request.task_options.first_k).encode(table.rows[:limit])
    return asker, Foreword(text=task.guidance), rows


def latency(asker: Asker, value: Foreword, rows: Sequence[Example]) -> float:
    """Milliseconds of one row alone: the median of a few, after one that warms up."""
    times = []
    for row in [rows[0], *rows[:_TIMED]]:
        began = time.perf_counter()
        asker.answer(value, [row])
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[1:])


def latency_of(prepared: Prepared, record: Mapping[str, Any], value: Foreword | None) -> float:
    """Milliseconds of one row: of a trained foreword, of a prompt, or as a baseline was timed."""
    if value is not None:
        return latency(prepared.asker, value, (prepared.examples.get("test") or prepared.examples["dev"])[:_TIMED])
    if "variant" in record.get("chosen", {}):
        return latency(*asked(prepared, Variant.from_json(record["chosen"]["variant"]), _TIMED))
    return float(record["ms"])


def written_tokens(prepared: Prepared, predictions: Sequence[Prediction]) -> float:
    """Tokens that an answer has on average: of the label's words for a classification."""
    if prepared.task.kind == "generation":
        return sum(p.tokens for p in predictions) / max(1, len(predictions))
    return 0.0 if prepared.task.head else 1.0


def price(read: float, written: float, correct: float, options: CompareOptions) -> float | None:
    """Price of one correct answer: tokens read and written, over the share of answers that are right.

    None where no price is given, or nothing is right.
    """
    if options.price_input is None and options.price_output is None:
        return None
    cost = (read * (options.price_input or 0.0) + written * (options.price_output or 0.0)) / 1e6
    return cost / correct if correct > 0 else None


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, value) that no other beats on both: cheaper and at least as good, or better and no
    dearer."""
    return [
        name
        for name, (cost, value) in points.items()
        if not any(
            (other_cost <= cost and other >= value) and (other_cost < cost or other > value)
            for other_name, (other_cost, other) in points.items()
            if other_name != name
        )
    ]
