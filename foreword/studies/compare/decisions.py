"""The families of comparisons, and what they come to.

Which prompt is the best and which method is, dev says; test only judges. So the two names in the verdict were not
chosen by the figures they are judged on. Two families, each corrected for itself: every trained method against the best
prompt (is training worth it?), and every other system against the best trained method (which one?).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foreword.data.task.task import Task
from foreword.evaluation.metrics.metric_registry import DEFAULT_METRICS, Metric, get_metric, moves
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.evaluation.report.summary import figure_text
from foreword.evaluation.report.verdict_text import Verdict, beside, facts_of, sentences, simpler_is_better
from foreword.evaluation.statistics.intervals import Sampling
from foreword.evaluation.statistics.repeated_seeds import runs_table, spread_of_runs
from foreword.evaluation.statistics.run_spread import RunVariance
from foreword.evaluation.statistics.verdict import Comparison, compare_family
from foreword.messages import Message
from foreword.runs.train.alarms import is_grave
from foreword.runs.train.run_verdict import nothing_learned, skew
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
        verdict: what was shown, in sentences.
    """

    prompt: str | None
    trained: str | None
    worth: tuple[Comparison, ...]
    which: tuple[Comparison, ...]
    verdict: Verdict

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict's sentences, its first first."""
        return self.verdict.lines


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


def decide(
    task: Task,
    systems: Mapping[str, Runs],
    options: CompareOptions,
    alarms: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Decision:
    """Compare ``systems`` on test by the task's metric.

    Args:
        alarms: trained system -> what each of its trainings warned of.
    """
    metric = get_metric(task.metric)
    # Of equal prompts the first, which is the user's; of equal baselines the last, which knows most.
    untrained = [name for name in PROMPTS if name in systems] or [n for n in reversed(BASELINES) if n in systems]
    trained = [name for name in systems if name not in PROMPTS and name not in BASELINES]
    prompt = max(untrained, key=lambda name: systems[name].dev, default=None)
    best = max(trained, key=lambda name: (systems[name].dev, -systems[name].loss), default=None)
    if prompt is None or best is None:
        return Decision(prompt, best, (), (), Verdict("measured", (_alone(trained),)))
    outputs, references = outputs_of(metric, systems)
    if not moves(metric, references):
        metric = get_metric("exact_match")
    margin = margin_of(metric, options)

    sampling = Sampling(options.level, row_groups(systems))

    def family(pairs: list[tuple[str, str]]) -> tuple[Comparison, ...]:
        return tuple(compare_family(metric, outputs, pairs, references, sampling=sampling, margin=margin))

    worth = family([(name, prompt) for name in trained])
    # The other prompts were chosen on dev against this one; what is left to ask is the other kinds.
    which = family([(name, best) for name in (*BASELINES, *trained) if name in systems and name not in (best, prompt)])
    main = next(one for one in worth if one.a == best)
    names = {name: called(name, systems, name in trained) for name in systems}
    verdict = sentences(main, names, margin, _by_others(task, systems, (best, prompt), metric, options))
    reason = _useless(systems[best], names[best], metric, main.better, (alarms or {}).get(best, ()), options.level)
    if reason is not None:
        verdict = replace(nothing_learned(reason), lines=(*nothing_learned(reason).lines, *verdict.lines[:1]))
    return Decision(prompt, best, worth, which, _beside(verdict, main, which, names, trained, systems))


def called(name: str, systems: Mapping[str, Runs], trained: bool) -> str:
    """A system in a sentence: one training is a run of its method, and says nothing of the method."""
    if trained and len(systems[name].test) == 1:
        return Message("this run of {name}", name=title(name))
    return title(name)


def _by_others(
    task: Task, systems: Mapping[str, Runs], pair: tuple[str, str], metric: Metric, options: CompareOptions
) -> list[Comparison]:  # fmt: skip
    """The same two systems by the other metrics of the kind of task."""
    found = []
    for name in DEFAULT_METRICS[task.kind]:
        other = get_metric(name)
        if other.sums is None or name == metric.name:
            continue
        outputs, references = outputs_of(other, {one: systems[one] for one in pair})
        if moves(other, references):
            sampling = Sampling(options.level, row_groups(systems))
            found += compare_family(other, outputs, [pair], references, sampling=sampling, n=1000)
    return found


def _useless(
    runs: Runs, name: str, metric: Metric, better: bool, alarms: Sequence[Sequence[str]], level: float
) -> Message | None:
    """Why the best that was trained is worth no more than one answer for all rows; None where it is."""
    grave = [next((one for one in told if is_grave(one)), None) for told in alarms]
    if grave and all(grave):
        return Message("{alarm} ({name})", alarm=grave[0], name=name)
    first = runs.test[0]
    golds = {row.gold for row in first}
    if len(golds) > 1 and all(len({row.output for row in run}) == 1 for run in runs.test):
        return Message("{name} gives the same answer to every test row", name=name)
    if metric.kind != "classification" or len(golds) < 2:
        return None
    label = Counter(row.gold for row in first).most_common(1)[0][0]
    order = [row.id for row in first]
    answers = [[{row.id: row.output for row in run}[one] for one in order] for run in runs.test]
    constant = {"learned": answers, "constant": [[label] * len(first)]}
    pairs, golds_of = [("learned", "constant")], [row.gold for row in first]
    sampling = Sampling(level, row_groups({name: runs}))
    found = compare_family(metric, constant, pairs, golds_of, sampling=sampling)[0]
    if found.better or (found.gain > 0 and not better):
        return None
    return Message(
        "{name} is not better than always answering {label}: {metric} {a} against {b} ({facts})",
        name=name,
        label=label,
        metric=Message(metric.title),
        a=figure_text(metric.name, found.difference.a),
        b=figure_text(metric.name, found.difference.b),
        facts=facts_of(found),
    )


def _beside(
    verdict: Verdict, main: Comparison, which: Sequence[Comparison], names: Mapping[str, str], trained: Sequence[str],
    systems: Mapping[str, Runs],
) -> Verdict:  # fmt: skip
    """The verdict with what stands beside it: simpler systems that are better, one training, the other methods."""
    lines = list(verdict.lines)
    # Whatever training does to the prompt: what needs no language model at all comes first where it is better.
    simpler = [one for one in which if one.a in BASELINES and one.better]
    for one in simpler:
        lines.insert(0, simpler_is_better(one, names))
    if main.seeds[0] == 1:
        # Whatever is said first rests on it, and who reads no further has to know.
        rests = Message("This rests on one training each: another seed may say otherwise.")
        lines[0] = Message("{first} {second}", first=lines[0], second=rests)
    lines += [beside(one, names) for one in which if one not in simpler and (one.a in trained or one.gain > 0)]
    lines += skew(systems[main.a].test[0], main.difference.metric, names[main.a])
    state = "worse" if simpler and verdict.state != "nothing_learned" else verdict.state
    return Verdict(state, tuple(lines))


def _alone(trained: Sequence[str]) -> Message:
    if not trained:
        return Message("Nothing was trained, so there is nothing to compare the prompt with.")
    return Message("There is no prompt to compare with: a task with a head has no words to answer in.")


def comparison_of(metric: Metric, systems: Mapping[str, Runs], a: str, b: str, level: float) -> Comparison:
    """One comparison that was named beforehand, so it needs no correction."""
    outputs, references = outputs_of(metric, {name: systems[name] for name in (a, b)})
    sampling = Sampling(level, row_groups(systems))
    return compare_family(metric, outputs, [(a, b)], references, sampling=sampling)[0]
