"""``--dry-run``: the resolved settings, and one real step and evaluation batch of the worst case."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from foreword.core.inject.value import Foreword
from foreword.progress import duration
from foreword.runs.prepare.prepare import prepare
from foreword.runs.train.precompute import unscored
from foreword.settings.schema import TrainRequest
from foreword.training.loop import advance
from foreword.training.lr_search import planned_steps
from foreword.training.schedule import total_steps
from foreword.training.side_by_side import side_by_side


def dry_run(request: TrainRequest) -> dict[str, Any]:
    """What ``train`` would do and cost: settings, steps, seconds, memory; nothing is written.

    The steps, of as many trials as train side by side, and the evaluation are real ones, on the longest rows, so the
    estimate is an upper one.
    """
    prepared = prepare(request, trained=False)
    settings = request.settings
    rows = sorted(prepared.examples["train"], key=lambda e: -len(e.input_ids) - len(e.target_ids))
    per_step = settings.batch_rows * settings.gradient_accumulation_steps
    asked = Foreword(text=prepared.task.guidance)
    rates = (settings.learning_rate,) if settings.learning_rate else settings.sweep or prepared.method.learning_rates
    before = _peak()
    step_seconds, values = 0.0, 0
    if prepared.method.learning_rates:
        together = side_by_side(rows, settings, len(rates)) if prepared.method.per_row else 1
        trials = [unscored(prepared, rows[:per_step]) for _ in range(together)]
        asked, values = trials[0].current(), sum(p.numel() for p in trials[0].parameters)
        step_seconds = _seconds(lambda: list(advance(trials, 1))) / together
        # The optimizer's state is there from the second step on.
        list(advance(trials, 2))
    dev = sorted(prepared.examples["dev"], key=lambda e: -len(e.input_ids))
    batch = dev[: settings.per_device_eval_batch_size]
    row_seconds = _seconds(lambda: prepared.asker.answer(asked, batch)) / len(batch)
    total = total_steps(len(rows), settings)
    steps = planned_steps(total, len(rates)) if rates else 0
    evaluations = max(1, round(settings.num_train_epochs)) * max(1, len(rates)) + 1
    seconds = steps * step_seconds + row_seconds * (evaluations * len(dev) + 2 * len(prepared.examples.get("test", [])))
    return {
        **request.to_json(),
        "rows": {name: len(found) for name, found in prepared.examples.items()},
        "task": prepared.task.to_json(),
        "trainable_values": values,
        "file_mib": round(asked.num_values * 4 / 2**20, 1),
        "learning_rates": list(rates),
        "optimizer_steps": steps,
        "seconds_per_step": round(step_seconds, 3),
        "seconds_per_row_evaluated": round(row_seconds, 4),
        "estimated_seconds": round(seconds, 1),
        "estimated_time": duration(seconds),
        "peak_memory_mib": round(_peak() / 2**20),
        "memory_of_one_step_mib": round(max(0, _peak() - before) / 2**20),
    }


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _peak() -> int:
    """Peak memory of this process so far, in bytes (on an accelerator: of its allocator)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
