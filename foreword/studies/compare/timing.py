"""Real timings before anything is planned: some steps and one evaluation batch of each method, and whether the steps of
two seeds are faster when they share their passes."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from foreword.errors import ForewordError
from foreword.messages import Message
from foreword.methods.base import Method, make_writer
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.prepare.start import longest_prefix
from foreword.studies.compare.plan import Cost
from foreword.training.loop import Score, Trial, advance

_STEPS = 3


def measure(
    prepared: Prepared,
    methods: Mapping[str, Method],
    report: Callable[[int, int], None],
    patience: float = 0.0,
    most: float = math.inf,
) -> tuple[dict[str, Cost], dict[str, str]]:
    """Cost of each method that works here, and why the others do not.

    Args:
        patience: seconds that a step may take for the steps of two seeds side by side to be timed, too.
        most: seconds for all timings: when they are over, methods that were not timed are left out.
    """
    began = time.perf_counter()
    costs: dict[str, Cost] = {}
    refused: dict[str, str] = {}
    for number, (name, method) in enumerate(methods.items(), start=1):
        left = most - (time.perf_counter() - began)
        if costs and left <= 0:
            refused[name] = Message("the budget is too small to find out how long it takes")
            continue
        try:
            longest_prefix(prepared.start, method, prepared.base, prepared.asker)
            costs[name] = _cost(prepared, method, patience, left / (len(methods) + 1 - number))
        except ForewordError as problem:
            refused[name] = problem.problem
        report(number, len(methods))
    return costs, refused


def _cost(prepared: Prepared, method: Method, patience: float, most: float) -> Cost:
    trial = _trial(prepared, method, 0)
    # The first step meets cold caches, and counts only where more of them would take too long.
    steps = [_seconds([trial])]
    while len(steps) < _STEPS and sum(steps) + steps[-1] <= most:
        steps.append(_seconds([trial]))
    step = statistics.mean(steps[1:] or steps)
    dev = prepared.examples["dev"]
    batch = random.Random(0).sample(dev, min(len(dev), prepared.request.settings.per_device_eval_batch_size))
    began = time.perf_counter()
    prepared.asker.answer(trial.current(), batch)
    row = (time.perf_counter() - began) / len(batch)
    return Cost(step, row, _gain(prepared, method) if method.per_row and step <= patience else 1.0)


def _gain(prepared: Prepared, method: Method) -> float:
    """The time of two steps one after another to that of two steps side by side, timed in turns."""
    first, second, *both = (_trial(prepared, method, seed) for seed in (0, 1, 0, 1))
    ratios = []
    for _ in range(_STEPS):
        alone = _seconds([first]) + _seconds([second])
        ratios.append(alone / _seconds(both))
    return round(statistics.median(ratios[1:]), 3)


def _trial(prepared: Prepared, method: Method, seed: int) -> Trial:
    """A trial that is only there to be timed."""
    settings = replace(
        prepared.request.settings, num_train_epochs=1000.0, max_steps=-1, eval_steps=10**6, seed=seed
    )  # fmt: skip
    writer = make_writer(method, replace(prepared.start, seed=seed))
    objective, rows = prepared.objective(writer), prepared.examples["train"]
    return Trial(prepared.base.model, writer, objective, rows, settings, 1e-6, lambda _: Score(0.0, 0.0))


def _seconds(trials: Sequence[Trial]) -> float:
    """How long the next step of all the trials takes."""
    began = time.perf_counter()
    for _ in advance(trials, trials[0].progress.step + 1):
        pass
    return time.perf_counter() - began
