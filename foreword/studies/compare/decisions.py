"""The families of comparisons, and what they come to.

Which prompt is the best and which method is, dev says; test only judges. So the two names in the verdict were not
chosen by the figures they are judged on. Two families, each corrected for itself: every trained method against the best
prompt (is training worth it?), and every other system against the best trained method (which one?).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreword.data.task.task import Task
from foreword.evaluation.metrics.metric_registry import Metric, get_metric
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.evaluation.statistics.intervals import Difference
from foreword.evaluation.statistics.repeated_seeds import runs_table, spread_of_runs
from foreword.evaluation.statistics.run_spread import RunVariance
from foreword.evaluation.statistics.verdict import Comparison, amount, beside, compare_family, how, sentences
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.system_names import BASELINES, PROMPTS, title


@dataclass(frozen=True)
class Runs:
    """One system: its score on dev (mean over seeds, higher is better), its answers on test, a list for each seed, and
    its loss on dev, which decides where scores are equal."""

    dev: float
    test: tuple[tuple[Prediction, ...], ...]
    loss: float = math.inf


@dataclass(frozen=True)
class Decision:
    """What was found.

    Args:
        prompt: the untrained system that training has to beat; None where there is none.
        trained: the trained system that is best on dev; None where nothing was trained.
        worth: every trained system against ``prompt``.
        which: every other system against ``trained``.
        lines: the verdict, its first sentence first.
    """

    prompt: str | None
    trained: str | None
    worth: tuple[Comparison, ...]
    which: tuple[Comparison, ...]
    lines: tuple[str, ...]


def columns(metric: Metric, predictions: Sequence[Prediction]) -> tuple[list[Any], list[Any]]:
    """What the metric takes as outputs and references."""
    if metric.name != "perplexity":
        return [p.output for p in predictions], [p.accepted for p in predictions]
    return [p.scores[GOLD_NLL] for p in predictions], [p.scores[GOLD_TOKENS] for p in predictions]


def margin_of(metric: Metric, options: CompareOptions) -> float:
    """The margin in the metric's own unit."""
    return options.margin / 100 if metric.top == 1 and metric.name != "perplexity" else options.margin


def outputs_of(metric: Metric, systems: Mapping[str, Runs]) -> tuple[dict[str, list[list[Any]]], list[Any]]:
    """System -> runs -> outputs, rows in one order, and the references."""
    first = next(iter(systems.values())).test[0]
    references = columns(metric, first)[1]
    order = [p.id for p in first]
    outputs: dict[str, list[list[Any]]] = {}
    for name, runs in systems.items():
        outputs[name] = []
        for run in runs.test:
            by_id = {p.id: p for p in run}
            outputs[name].append(columns(metric, [by_id[row] for row in order])[0])
    return outputs, references


def runs_seen(metric: Metric, systems: Mapping[str, Runs]) -> list[RunVariance]:
    """What the repeated trainings of every system tell of how far trainings lie apart."""
    outputs, references = outputs_of(metric, systems)
    several = [runs for runs in outputs.values() if len(runs) > 1]
    # One of the runs stands in for the other system, which does not matter here.
    return [
        spread_of_runs(metric, runs_table(metric, runs, runs[:1], references), len(runs), 2, 13).runs[0]
        for runs in several
    ]


def row_groups(systems: Mapping[str, Runs]) -> list[str] | None:
    """The groups of the test rows, in the order of the first system's; None where every row stands for itself."""
    order = [p.id for p in next(iter(systems.values())).test[0]]
    known = {p.id: p.group for runs in systems.values() for p in runs.test[0] if p.group}
    groups = [known.get(row, row) for row in order]
    return groups if known and len(set(groups)) > 1 else None


def decide(task: Task, systems: Mapping[str, Runs], options: CompareOptions) -> Decision:
    """Compare ``systems`` on test by the task's metric."""
    metric = get_metric(task.metric)
    # Of equal prompts the first, which is the user's; of equal baselines the last, which knows most.
    untrained = [name for name in PROMPTS if name in systems] or [n for n in reversed(BASELINES) if n in systems]
    trained = [name for name in systems if name not in PROMPTS and name not in BASELINES]
    prompt = max(untrained, key=lambda name: systems[name].dev, default=None)
    best = max(trained, key=lambda name: (systems[name].dev, -systems[name].loss), default=None)
    if prompt is None or best is None:
        return Decision(prompt, best, (), (), (_alone(prompt, trained),))
    outputs, references = outputs_of(metric, systems)
    margin = margin_of(metric, options)

    def family(pairs: list[tuple[str, str]]) -> tuple[Comparison, ...]:
        compared = compare_family(
            metric, outputs, pairs, references, level=options.level, margin=margin, groups=row_groups(systems)
        )
        return tuple(compared)

    worth = family([(name, prompt) for name in trained])
    # The other prompts were chosen on dev against this one; what is left to ask is the other kinds.
    which = family([(name, best) for name in (*BASELINES, *trained) if name in systems and name not in (best, prompt)])
    main = next(one for one in worth if one.a == best)
    names = {name: title(name) for name in systems}
    lines = sentences(main, names, margin)
    # Whatever training does to the prompt: what needs no language model at all comes first where it is better.
    simpler = [one for one in which if one.a in BASELINES and one.better]
    for one in simpler:
        said = f"{names[one.a]} is better than {names[best]} by {amount(metric.name, one.gain)} ({how(one)})."
        lines.insert(0, f"Do not train: {said}")
    if main.seeds[0] == 1:
        # Whatever is said first rests on it, and who reads no further has to know.
        lines[0] += " This rests on one training each: another seed may say otherwise."
    for one in which:
        if one not in simpler and (one.a in trained or one.gain > 0):
            lines.append(beside(one, names))
    return Decision(prompt, best, worth, which, tuple(lines))


def _alone(prompt: str | None, trained: Sequence[str]) -> str:
    if not trained:
        return "Nothing was trained, so there is nothing to compare the prompt with."
    return "There is no prompt to compare with: a task with a head has no words to answer in."


def between(metric: Metric, systems: Mapping[str, Runs], a: str, b: str, level: float) -> Difference:
    """One comparison that was named beforehand, so it needs no correction."""
    outputs, references = outputs_of(metric, {name: systems[name] for name in (a, b)})
    groups = row_groups(systems)
    return compare_family(metric, outputs, [(a, b)], references, level=level, groups=groups)[0].difference
