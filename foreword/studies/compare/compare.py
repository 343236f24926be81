"""One comparison, from the data to the verdict. It can be killed at any moment and gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.artifact.store import load
from foreword.data.readers.read import read
from foreword.errors import Interrupted, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.verdict import planned_detectable
from foreword.messages import Message, restored
from foreword.methods.base import Method
from foreword.progress import duration
from foreword.progress import plan as announce
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.trackers.base import asked_for
from foreword.runs.train.dev_score import metric_names
from foreword.runs.train.interrupt import interruptible
from foreword.runs.train.run_record import record_run, to_resume
from foreword.runs.workers.pool import Workers, refuse_memory
from foreword.settings.budget import Clock
from foreword.settings.schema import ProgressCall, TrainRequest, TrainSettings
from foreword.studies.compare import compare_report
from foreword.studies.compare.active_learning import check_pool, label_next
from foreword.studies.compare.compare_contents import (
    NAME,
    costs_of,
    gate_result,
    report_facts,
    retention_of,
    sentences_about_rows,
)
from foreword.studies.compare.compare_result import CompareResult
from foreword.studies.compare.decisions import Decision, columns, decide, margin_of, runs_seen
from foreword.studies.compare.gate import Gate, parse
from foreword.studies.compare.learning_curve import learning_curve
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.setup import methods_of, prepared_for
from foreword.studies.compare.stages import Work
from foreword.studies.compare.system_names import BASELINES, PROMPTS, system_of


@in_its_folder
def compare(
    request: TrainRequest,
    options: CompareOptions | None = None,
    fixed: Plan | None = None,
    workers: Workers | None = None,
    began: float | None = None,
) -> CompareResult:
    """Compare prompts, baselines and trained methods on the same rows; writes ``report.json|md|html`` into
    ``request.output_dir``, and every answer and foreword into folders below it.

    Args:
        request: data, base, task and training settings; its method settings are those of its method alone.
        options: of the comparison.
        fixed: a plan to follow instead of one made from the budget.
        workers: who carries out the trainings; None: this process, one after another.
        began: when the budget began, by ``time.monotonic()``; None: now.

    Raises:
        SettingsError: something that cannot be, or a budget that holds nothing; found before anything is trained.
        DataError: the data is refused.
        ResumeError: ``request.resume`` and the folder holds another comparison.
        Interrupted: Ctrl-C; everything that was finished is kept.
    """
    options = options or CompareOptions()
    clock = Clock(options.seconds, began=time.monotonic() if began is None else began)
    methods = methods_of(request, options)
    gate = None if options.require is None else parse(options.require, _systems(methods))
    folder = Path(request.output_dir)
    if workers is not None:
        refuse_memory(request)
    _refuse(request.settings)
    prepared = prepared_for(request, methods)
    _check(prepared, options)
    there, new = folder.exists(), not (folder / NAME).exists()
    record_run(folder, replace(prepared, request=request), name=NAME, more={"compare": options.to_json()})
    clock.before = _spent(folder)
    with interruptible() as interrupts:
        done = Work(prepared, methods, options, folder, clock, interrupts, workers)
        try:
            return _finish(done, done.plan(fixed), gate)
        except SettingsError:
            # What was refused before it began leaves nothing that could only be gone on with as it was.
            if new and not done.planned:
                (folder / NAME).unlink()
                if not there:
                    folder.rmdir()
            raise
        except KeyboardInterrupt:
            raise _interrupted(done) from None


def _interrupted(work: Work) -> Interrupted:
    """What is told of an interrupted comparison; the time that it took is kept."""
    work.spend()
    return Interrupted(
        "interrupted; everything that was finished is kept",
        where=str(work.folder),
        hint=Message("go on with `foreword compare --resume {folder}`", folder=work.folder),
    )


def resume_comparison(
    folder: str | Path, progress: ProgressCall | None = None, workers: Workers | None = None
) -> CompareResult:
    """Go on with an interrupted comparison; what is finished is read, a training in the middle goes on from its last
    checkpoint.

    Raises:
        ResumeError: there is no comparison in ``folder``, its data were in memory, or they have changed.
    """
    request, options = to_resume(folder, "compare", progress, name=NAME, more="compare")
    return compare(request, CompareOptions.from_json(options), workers=workers)


def _systems(methods: Mapping[str, Method]) -> list[str]:
    return [*BASELINES, *PROMPTS, *map(system_of, methods)]


def _refuse(settings: TrainSettings) -> None:
    """Settings that would do nothing in a comparison, or cannot be."""
    asked_for(settings.report_to)
    if settings.processes > 1 or settings.shard:
        raise SettingsError(
            "each training of a comparison is in one process",
            where="processes" if settings.processes > 1 else "shard",
            hint="share the trainings out with --workers",
        )
    if settings.ablate:
        raise SettingsError("a comparison does not train without augmentation once more", where="ablate")


def _check(prepared: Prepared, options: CompareOptions) -> None:
    metric = get_metric(prepared.task.metric)
    if metric.sums is None:
        raise SettingsError(
            Message("{name} has no interval to judge by", name=metric.name), where="--metric", hint="use another metric"
        )
    if len(prepared.examples.get("test", [])) < 2:
        raise SettingsError("a comparison needs test rows", where="--test", hint="leave test_fraction above 0")
    if options.pool is not None:
        check_pool(prepared, options.pool)
    if options.other is not None:
        read(options.other)


def _spent(folder: Path) -> float:
    path = folder / "spent.json"
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.exists() else 0.0


def power_of(prepared: Prepared, plan: Plan, options: CompareOptions) -> dict[str, Any]:
    """What the test set can show, before anything is trained."""
    metric, rows = get_metric(prepared.task.metric), len(prepared.examples["test"])
    found: dict[str, Any] = {"rows": rows, "seeds": len(plan.seeds), "comparisons": len(plan.methods)}
    if metric.form != "proportion":
        sentence = Message(
            "{n} test rows; what they show in {metric} is told by the intervals.",
            n=rows,
            metric=Message(metric.title),
        )
        return {**found, "detectable": None, "sentence": sentence}
    shown = planned_detectable(rows, (len(plan.seeds), 1), len(plan.methods), level=options.level)
    sentence = Message(
        "{n} test rows with {k} seed{k!p} and {m} comparison{m!p} show differences above {gain} with 80% power, if two "
        "systems disagree about 20% of the rows and seeds differ by 1 point.",
        n=rows, k=len(plan.seeds), m=len(plan.methods), gain=Message("{n} points", n=f"{100 * shown:.1f}"),
    )  # fmt: skip
    return {**found, "detectable": shown, "discordance": 0.2, "deviation": 0.01, "sentence": sentence}


def _finish(done: Work, plan: Plan, gate: Gate | None) -> CompareResult:
    power = power_of(done.prepared, plan, done.options)
    announce(
        done.report,
        Message("plan: about {duration}; {value}", duration=duration(plan.seconds), value=power["sentence"]),
        plan.seconds,
    )
    before = done.before()
    done.untrained(plan)
    done.trained(plan)
    prepared, options = done.prepared, done.options
    alarms = {name: [restored(one.get("alarms", [])) for one in found] for name, found in done.records.items()}
    decision = decide(prepared.task, done.systems, options, alarms)
    curve = _curve(done, plan, decision) if options.curve and decision.trained else None
    values = {name: load(done.file(name))[0] for name in done.systems if name not in (*BASELINES, *PROMPTS)}
    pooled = None
    if options.pool is not None and decision.trained is not None:
        pooled = label_next(prepared, options.pool, values[decision.trained], options.label_next, done.folder)
    names = metric_names(prepared.task, prepared.request.task_options.metrics)
    systems = compare_report.summaries(prepared.task, done.systems, names, options.level)
    costs = costs_of(done, values, systems)
    kept = retention_of(done, values, before)
    judged = None if gate is None else gate_result(done, gate, decision)
    done.spend()
    found: dict[str, Any] = {
        "systems": systems,
        "comparisons": {"worth": [c.to_json() for c in decision.worth], "which": [c.to_json() for c in decision.which]},
        "power": power,
        "costs": costs,
        "retention": kept,
        "curve": curve,
        "label_next": pooled,
        "gate": judged,
    }
    tables = [compare_report.prompts(done.records), *compare_report.tables(decision, found, prepared.task.metric)]
    lines = [*decision.lines, *sentences_about_rows(done, decision)]
    report = {**report_facts(done, plan, decision), **found, "tables": tables, "verdict_lines": lines}
    write_report(done.folder, report)
    return CompareResult(
        str(done.folder), lines, prepared.task.metric, systems, costs, report["comparisons"], power,
        judged, plan.to_json(), curve, pooled, report["warnings"], report["seconds"], compare_report.render(report),
        decision.verdict.state,
    )  # fmt: skip


def _curve(done: Work, plan: Plan, decision: Decision) -> dict[str, Any] | None:
    """What the best method learned from fewer rows, and what it would learn from more."""
    system = str(decision.trained)
    metric, runs = get_metric(done.prepared.task.metric), done.fewer_rows(plan, system)
    if len(runs) < 3 or metric.better == "lower":
        return None
    outputs = {count: columns(metric, found)[0] for count, found in runs.items()}
    references = columns(metric, runs[plan.rows["train"]])[1]
    margin = margin_of(metric, done.options)
    seen = runs_seen(metric, done.systems)
    found = learning_curve(metric, outputs, references, margin, seen=seen, level=done.options.level)
    return {**found, "system": system}
