"""Real timings before anything is planned: some steps and one evaluation batch of each method."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from foreword.compare.plan import Cost
from foreword.errors import ForewordError
from foreword.methods.base import Method, make_writer
from foreword.run.front import most_taken
from foreword.run.prepare import Prepared
from foreword.training.loop import Score, Step, Trial

_STEPS = 3


def measure(
    prepared: Prepared, methods: Mapping[str, Method], report: Callable[[int, int], None]
) -> tuple[dict[str, Cost], dict[str, str]]:
    """Cost of each method that works here, and why the others do not."""
    costs: dict[str, Cost] = {}
    refused: dict[str, str] = {}
    for number, (name, method) in enumerate(methods.items(), start=1):
        try:
            most_taken(prepared.start, method, prepared.base, prepared.asker)
            costs[name] = _cost(prepared, method)
        except ForewordError as problem:
            refused[name] = problem.problem
        report(number, len(methods))
    return costs, refused


def _cost(prepared: Prepared, method: Method) -> Cost:
    dice = random.Random(0)
    settings = replace(prepared.request.settings, num_train_epochs=1000.0, max_steps=-1, eval_steps=10**6)
    writer = make_writer(method, prepared.start)
    value = writer.write().detach()
    asker, rows = prepared.asker, prepared.examples["train"]
    trial = Trial(
        prepared.base.model, writer, asker.objective(value), rows, settings, 1e-6, lambda _: Score(0.0, 0.0)
    )  # fmt: skip
    times, last = [], time.perf_counter()
    for event in trial.run(_STEPS):
        if isinstance(event, Step):
            times.append(time.perf_counter() - last)
        last = time.perf_counter()
    dev = prepared.examples["dev"]
    batch = dice.sample(dev, min(len(dev), settings.per_device_eval_batch_size))
    began = time.perf_counter()
    asker.answer(value, batch)
    row = (time.perf_counter() - began) / len(batch)
    # The first step meets cold caches.
    return Cost(sum(times[1:]) / max(1, len(times) - 1) if len(times) > 1 else times[0], row)
