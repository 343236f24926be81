"""One comparison, from the data to the verdict. It can be killed at any moment and gone on with."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.artifact.store import load
from foreword.core.inject.value import Foreword
from foreword.data.readers.read import read
from foreword.errors import Interrupted, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.report.summary import figure_text
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.verdict import planned_detectable
from foreword.messages import Message, restored
from foreword.methods.base import Method
from foreword.progress import duration
from foreword.progress import plan as announce
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.prepare import Prepared, plain_settings
from foreword.runs.train.dev_score import metric_names
from foreword.runs.train.interrupt import interruptible
from foreword.runs.train.result import versions
from foreword.runs.train.run_record import claim, recorded, to_resume
from foreword.runs.train.run_verdict import about_rows
from foreword.runs.workers.pool import Workers, refuse_memory
from foreword.settings.budget import Clock
from foreword.settings.schema import ProgressCall, TrainRequest, TrainSettings
from foreword.storage import write_atomically
from foreword.studies.compare import compare_report, retention
from foreword.studies.compare.active_learning import check_pool, label_next
from foreword.studies.compare.compare_result import CompareResult
from foreword.studies.compare.costs import latency_of, pareto, price, work, written_tokens
from foreword.studies.compare.decisions import Decision, between, columns, decide, margin_of, runs_seen
from foreword.studies.compare.gate import Gate, parse
from foreword.studies.compare.learning_curve import learning_curve
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.setup import methods_of, prepared_for
from foreword.studies.compare.stages import Work
from foreword.studies.compare.system_names import BASELINES, PROMPTS, system_of, title
from foreword.studies.compare.trained_systems import reading_tokens

NAME = "compare.json"


@in_its_folder
def compare(
    request: TrainRequest,
    options: CompareOptions | None = None,
    fixed: Plan | None = None,
    workers: Workers | None = None,
) -> CompareResult:
    """Compare prompts, baselines and trained methods on the same rows; writes ``report.json|md|html`` into
    ``request.output_dir``, and every answer and foreword into folders below it.

    Args:
        request: data, base, task and training settings; its method settings are those of its method alone.
        options: of the comparison.
        fixed: a plan to follow instead of one made from the budget.
        workers: who carries out the trainings; None: this process, one after another.

    Raises:
        SettingsError: something that cannot be, or a budget that holds nothing; found before anything is trained.
        DataError: the data is refused.
        ResumeError: ``request.resume`` and the folder holds another comparison.
        Interrupted: Ctrl-C; everything that was finished is kept.
    """
    options = options or CompareOptions()
    clock = Clock(options.seconds)
    methods = methods_of(request, options)
    gate = None if options.require is None else parse(options.require, _systems(methods))
    folder = Path(request.output_dir)
    if workers is not None:
        refuse_memory(request)
    _refuse(request.settings)
    prepared = prepared_for(request, methods)
    _check(prepared, options)
    there, new = folder.exists(), not (folder / NAME).exists()
    claim(folder, replace(prepared, request=request), name=NAME, more={"compare": options.to_json()})
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
        hint=f"go on with `foreword compare --resume {work.folder}`",
    )


def resume(folder: str | Path, progress: ProgressCall | None = None, workers: Workers | None = None) -> CompareResult:
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
    """Settings that would do nothing in a comparison."""
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
        raise SettingsError(f"{metric.name} has no interval to judge by", where="--metric", hint="use another metric")
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
    announce(done.report, f"plan: about {duration(plan.seconds)}; {power['sentence']}", plan.seconds)
    before = done.before()
    done.untrained()
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
    costs = _costs(done, values, systems)
    kept = _retention(done, values, before)
    judged = None if gate is None else _judge(done, gate, decision)
    done.spend()
    found = {
        "systems": systems,
        "comparisons": {"worth": [c.to_json() for c in decision.worth], "which": [c.to_json() for c in decision.which]},
        "power": power,
        "costs": costs,
        "retention": kept,
        "curve": curve,
        "label_next": pooled,
        "gate": judged,
        "tables": [
            compare_report.prompts(done.records),
            *compare_report.tables(decision, systems, prepared.task.metric, costs, power, kept, curve, pooled),
        ],
    }
    lines = [*decision.lines, *_about_rows(done, decision)]
    report = {**_told(done, plan, decision), **found, "verdict_lines": lines}
    write_report(done.folder, report)
    return CompareResult(
        str(done.folder), lines, prepared.task.metric, systems, costs, report["comparisons"], power,
        judged, plan.to_json(), curve, pooled, report["warnings"], report["seconds"], compare_report.render(report),
        decision.verdict.state,
    )  # fmt: skip


def _told(done: Work, plan: Plan, decision: Decision) -> dict[str, Any]:
    """What a report says besides its figures: the verdict, what was done, and all that doing it again needs."""
    prepared = done.prepared
    return {
        "title": Message("Comparison on {b}", b=prepared.base.id.rsplit("/", 1)[-1]),
        "kind": "comparison",
        "schema": compare_report.SCHEMA,
        "subtitle": Message(
            "{base}; {rows} rows; {date}",
            base=prepared.base.id.rstrip("/").rsplit("/", 1)[-1],
            rows=f"{sum(map(len, prepared.tables.values())):,}",
            date=f"{datetime.now(UTC):%Y-%m-%d}",
        ),
        "verdict": decision.lines[0],
        "state": decision.verdict.state,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": [*plan.notes, *done.skipped, *_alarms(done)],
        "metric": prepared.task.metric,
        "titles": {name: title(name) for name in done.systems},
        "chosen_on_dev": {"prompt": decision.prompt, "trained": decision.trained},
        "rows": compare_report.read_rows(done.systems, decision, prepared.task.metric),
        "again": f"foreword reproduce {done.folder}/report.json",
        "data": _data(done),
        "base": {"id": prepared.base.id, "revision": prepared.base.revision, **prepared.base.fingerprint},
        "task": plain_settings(prepared.task.to_json()),
        "settings": plain_settings(prepared.request.settings.to_json()),
        "plan": plan.to_json(),
        "request": plain_settings(recorded(done.folder, NAME)["request"]),
        "records": _records(done),
        "versions": versions(),
        "machine": {"platform": platform.platform(), "processor": platform.machine()},
        "seconds": round(done.clock.spent, 3),
    }


def _about_rows(done: Work, decision: Decision) -> list[Message]:
    """What the rows leave open, of the two systems in the verdict."""
    if decision.prompt is None or decision.trained is None:
        return []
    answers = {"prompt": done.systems[decision.prompt].test[0], "foreword": done.systems[decision.trained].test[0]}
    return list(about_rows(done.prepared, answers))


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
    found = learning_curve(metric, outputs, references, 2 * margin, margin, seen=seen, level=done.options.level)
    return {**found, "system": system}


def _costs(done: Work, values: Mapping[str, Foreword], systems: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each system costs; latency is measured here, once, and kept."""
    metric, out = done.prepared.task.metric, {}
    path = done.folder / "latency.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for number, (name, runs) in enumerate(done.systems.items(), start=1):
        found, value = done.records[name], values.get(name)
        one = found[0]
        neural = name not in BASELINES
        written = written_tokens(done.prepared, runs.test[0])
        read_tokens = reading_tokens(done.prepared, value) if value is not None else one.get("row_tokens", 0.0)
        if name not in known:
            known[name] = latency_of(done.prepared, one, value)
        counted = work(done.prepared, one, read_tokens, written) if neural else {"row": 0.0, "training": 0.0}
        figure = systems[name]["metrics"][metric]["value"]
        fresh = [r["seconds"] for r in found if not r.get("resumed")]
        out[name] = {
            "trained_values": one.get("trained_values", one.get("values", 0)), "bytes": one.get("bytes"),
            "seconds": sum(fresh) / len(fresh) if fresh and value is not None else None,
            "learning_rate": one.get("learning_rate"), "training_gflop": counted["training"] / 1e9 if neural else None,
            "row_gflop": counted["row"] / 1e9 if neural else 0.0, "ms": known[name],
            "read_tokens": read_tokens if neural else None, "written_tokens": written if neural else None,
            "price": price(read_tokens, written, figure, done.options) if neural and _counts(metric) else None,
        }  # fmt: skip
        done.report("time each system", number, len(done.systems))
    write_atomically(path, [json.dumps(known).encode()])
    longest = next((out[name]["read_tokens"] for name in ("few_shot", "prompt") if name in out), None)
    better = 1 if get_metric(metric).better == "higher" else -1
    front = pareto({n: (c["row_gflop"], better * systems[n]["metrics"][metric]["value"]) for n, c in out.items()})
    for name, cost in out.items():
        reads = cost["read_tokens"]
        cost["saved_tokens"] = None if longest is None or reads is None else longest - reads
        cost["pareto"] = name in front
    return out


def _counts(metric: str) -> bool:
    """Whether the metric is a share of right answers, so that one of them has a price."""
    return get_metric(metric).form == "proportion"


def _retention(done: Work, values: Mapping[str, Foreword], before: str) -> dict[str, Any]:
    same = retention.behaviour(done.prepared) == before
    equal = Message("Without a foreword the base is bit-equal to what it was before training.")
    changed = Message("Without a foreword the base HAS CHANGED: another machine or thread count?")
    found: dict[str, Any] = {
        "unchanged": same,
        "unchanged_sentence": equal if same else changed,
        "neutral_reason": retention.measured(done.prepared),
    }
    if found["neutral_reason"] is None:
        found["neutral"] = retention.drift(done.prepared, values)
    if done.options.other is not None:
        found["other"] = retention.elsewhere(done.prepared, done.options.other, values)
    return found


def _judge(done: Work, gate: Gate, decision: Decision) -> dict[str, Any]:
    """Whether the requirement is met, by the lower end of the interval or by the figure; what is missing is not met."""
    metric = get_metric(done.prepared.task.metric)
    scale = 100.0 if metric.top == 1 and metric.name != "perplexity" else 1.0
    by = done.options.require_by
    base = {"text": gate.text, "by": by}
    for name in (gate.left, gate.right):
        if name is not None and name not in done.systems:
            return {
                **base,
                "met": False,
                "value": None,
                "said": Message("{name} is not among the systems of this run", name=name),
            }
    if decision.verdict.state == "nothing_learned" and decision.trained == gate.left:
        return {**base, "met": False, "value": None, "said": decision.lines[0]}
    if gate.right is None:
        names = compare_report.summaries(
            done.prepared.task, {gate.left: done.systems[gate.left]}, [metric.name], done.options.level
        )
        figure = names[gate.left]["metrics"][metric.name]
        value = figure["value"] if by == "estimate" else figure["low"]
    else:
        found = between(metric, done.systems, gate.left, gate.right, done.options.level)
        low = found.interval.low if metric.better == "higher" else -found.interval.high
        value = found.estimate * (1 if metric.better == "higher" else -1) if by == "estimate" else low
    text = figure_text(metric.name, value, gate.right is not None)
    lowest, estimate = Message("the lower end of the interval is {n}", n=text), Message("the figure is {n}", n=text)
    return {**base, "met": gate.met(scale * value), "value": value,
            "said": lowest if by == "interval" else estimate}  # fmt: skip


def _alarms(done: Work) -> list[str]:
    """What the trainings warned of: a line for each warning, with the systems, and their seeds unless all of them say
    it."""
    told: dict[str, dict[str, list[int]]] = {}
    for name, found in done.records.items():
        for one in found:
            for alarm in restored(one.get("alarms", [])):
                told.setdefault(alarm, {}).setdefault(name, []).append(one["seed"])
    lines: list[str] = []
    for alarm, systems in told.items():
        some = {name: len(seeds) < len(done.records[name]) for name, seeds in systems.items()}
        names = [
            Message("{name} (seed {seeds})", name=title(name), seeds=" and ".join(map(str, seeds)))
            if some[name]
            else title(name)
            for name, seeds in systems.items()
        ]
        lines.append(Message("{alarm}: {names}", alarm=alarm, names=names))
    return lines


def _data(done: Work) -> dict[str, Any]:
    lock = done.prepared.lock.to_json(ids=False)
    return {
        name: {"rows": len(table), "file": table.name, "digest": lock[name]["ids_digest"],
               "dropped": json.dumps(done.prepared.dropped.get(name, {}))}
        for name, table in done.prepared.tables.items()
    }  # fmt: skip


def _records(done: Work) -> dict[str, Any]:
    """What to reproduce: for each system the files its figures come from, and a digest of the answers in them."""
    files = done.files()
    out: dict[str, Any] = {}
    for name, runs in done.systems.items():
        out[name] = [
            {
                "predictions": path,
                "answers": answers_digest(run),
                **{k: one[k] for k in ("seed", "learning_rate", "digest", "dev") if k in one},
            }
            for path, run, one in zip(files[name], runs.test, done.records[name], strict=True)
        ]
    return out


def answers_digest(predictions: Any) -> str:
    """SHA-256 of the answers by row: equal digests mean that every row was answered alike."""
    lines = sorted(json.dumps([one.id, one.output], ensure_ascii=True) for one in predictions)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
