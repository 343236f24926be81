"""``--dry-run``: the resolved settings, and one real step and evaluation batch of the worst case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.core.passes.memory import in_use, peak
from foreword.data.tokens.examples import Example, length_of
from foreword.progress import duration
from foreword.runs.prepare.prepare import Prepared, prepare
from foreword.runs.train.precompute import unscored
from foreword.runs.train.train import rates_of
from foreword.settings.schema import TrainRequest
from foreword.training.loop import advance
from foreword.training.lr_search import planned_steps
from foreword.training.schedule import total_steps
from foreword.training.side_by_side import side_by_side


@dataclass(frozen=True)
class _Measured:
    """What some work took: seconds, the most bytes in use during it, and the bytes that were in use before it."""

    seconds: float
    peak: int
    before: int

    @classmethod
    def of(cls, prepared: Prepared, act: Callable[[], object]) -> _Measured:
        """Do ``act`` on the run's device."""
        device = prepared.base.model.device
        before, began = in_use(device), time.perf_counter()
        most = peak(device, act)
        return cls(time.perf_counter() - began, most, before)


@dataclass(frozen=True)
class _Steps:
    """Real steps: what the writer wrote, how many values it trains, seconds a step and trial, and what memory took."""

    value: Foreword
    trained_values: int
    seconds: float
    memory: _Measured


def dry_run(request: TrainRequest) -> dict[str, Any]:
    """What ``train`` would do and cost: settings, steps, seconds, memory; nothing is written.

    The steps, of as many trials as train side by side, and the evaluation are real ones, on the longest rows, so the
    estimate is an upper one.

    >>> from foreword.api import dry_run
    >>> from foreword.settings.schema import TrainRequest, TrainSettings
    >>> settings = TrainSettings(learning_rate=0.02, max_steps=2)
    >>> plan = dry_run(TrainRequest("reviews.csv", "base", "planned", settings=settings))
    >>> plan["optimizer_steps"], plan["rows"]["train"]
    (2, 28)
    """
    prepared = prepare(request, trained=False)
    settings, rows, dev = request.settings, prepared.examples["train"], prepared.examples["dev"]
    rates = rates_of(prepared)
    steps = _steps(prepared, rates) if rates else None
    asked = Foreword(text=prepared.task.guidance) if steps is None else steps.value
    batch = _longest(dev)[: settings.per_device_eval_batch_size]
    evaluation = _Measured.of(prepared, lambda: prepared.asker.answer(asked, batch))
    row_seconds = evaluation.seconds / len(batch)
    planned = planned_steps(total_steps(len(rows), settings), len(rates)) if rates else 0
    evaluations = max(1, round(settings.num_train_epochs)) * max(1, len(rates)) + 1
    answered = evaluations * len(dev) + 2 * len(prepared.examples.get("test", []))
    seconds = planned * (steps.seconds if steps else 0.0) + row_seconds * answered
    measured = [evaluation, *([steps.memory] if steps else [])]
    return {
        **request.to_json(),
        "rows": {name: len(split) for name, split in prepared.examples.items()},
        "task": prepared.task.to_json(),
        "trainable_values": steps.trained_values if steps else 0,
        "file_mib": round(asked.num_values * 4 / 2**20, 1),
        "learning_rates": list(rates),
        "optimizer_steps": planned,
        "seconds_per_step": round(steps.seconds if steps else 0.0, 3),
        "seconds_per_row_evaluated": round(row_seconds, 4),
        "estimated_seconds": round(seconds, 1),
        "estimated_time": duration(seconds),
        "peak_memory_mib": round(max(one.peak for one in measured) / 2**20),
        "memory_of_one_step_mib": round(max(0, *(one.peak - one.before for one in measured)) / 2**20),
    }


def _steps(prepared: Prepared, rates: Sequence[float]) -> _Steps:
    """Two steps over the longest rows: the optimizer's state is there from the second one on."""
    settings, rows = prepared.request.settings, _longest(prepared.examples["train"])
    together = side_by_side(rows, settings, len(rates)) if prepared.method.per_row else 1
    some = rows[: settings.batch_rows * settings.gradient_accumulation_steps]
    trials = [unscored(prepared, some) for _ in range(together)]
    first = _Measured.of(prepared, lambda: list(advance(trials, 1)))
    second = _Measured.of(prepared, lambda: list(advance(trials, 2)))
    memory = _Measured(first.seconds, max(first.peak, second.peak), first.before)
    values = sum(p.numel() for p in trials[0].parameters)
    return _Steps(trials[0].current(), values, first.seconds / together, memory)


def _longest(rows: Sequence[Example]) -> list[Example]:
    return sorted(rows, key=lambda row: -length_of(row))
