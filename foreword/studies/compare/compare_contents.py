"""What the report of a comparison holds besides its tables: facts, costs, retention, the gate, its data and records."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import figure_text
from foreword.evaluation.report.verdict_text import plainly
from foreword.messages import Message, restored
from foreword.runs.prepare.prepare import plain_settings
from foreword.runs.train.result import versions
from foreword.runs.train.run_record import recorded
from foreword.runs.train.run_verdict import about_rows
from foreword.storage import write_atomically
from foreword.studies.compare import compare_report, retention
from foreword.studies.compare.costs import latency_of, pareto, price, work, written_tokens
from foreword.studies.compare.decisions import Decision, called, comparison_of
from foreword.studies.compare.gate import Gate
from foreword.studies.compare.plan import Plan
from foreword.studies.compare.stages import Work
from foreword.studies.compare.system_names import BASELINES, title
from foreword.studies.compare.trained_systems import reading_tokens

NAME = "compare.json"


def report_facts(done: Work, plan: Plan, decision: Decision) -> dict[str, Any]:
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
        "base": {
            "id": prepared.base.id,
            "revision": prepared.base.revision,
            **prepared.base.precision(),
            **prepared.base.fingerprint,
        },
        "task": plain_settings(prepared.task.to_json()),
        "settings": plain_settings(prepared.request.settings.to_json()),
        "plan": plan.to_json(),
        "request": plain_settings(recorded(done.folder, NAME)["request"]),
        "records": _records(done),
        "versions": versions(),
        "machine": {"platform": platform.platform(), "processor": platform.machine()},
        "seconds": round(done.clock.spent, 3),
    }


def sentences_about_rows(done: Work, decision: Decision) -> list[Message]:
    """What the rows leave open, of the two systems in the verdict."""
    if decision.prompt is None or decision.trained is None:
        return []
    prompt, trained = decision.prompt, decision.trained
    pair = {name: done.systems[name] for name in (trained, prompt)}

    def without(ids: Collection[str]) -> Message | None:
        rest = {name: replace(runs, test=tuple(_rest(run, ids) for run in runs.test)) for name, runs in pair.items()}
        if len(rest[trained].test[0]) < 2:
            return None
        found = comparison_of(get_metric(done.prepared.task.metric), rest, trained, prompt, done.options.level)
        return plainly(found, called(trained, pair, True), called(prompt, pair, False))

    return list(about_rows(done.prepared, pair[trained].test[0], without))


def _rest(run: Sequence[Prediction], ids: Collection[str]) -> tuple[Prediction, ...]:
    return tuple(row for row in run if row.id not in ids)


def costs_of(done: Work, values: Mapping[str, Foreword], systems: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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


def retention_of(done: Work, values: Mapping[str, Foreword], before: str) -> dict[str, Any]:
    """What each foreword does to other text and tasks, and whether the base is what it was ``before`` training."""
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


def gate_result(done: Work, gate: Gate, decision: Decision) -> dict[str, Any]:
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
        found = comparison_of(metric, done.systems, gate.left, gate.right, done.options.level).difference
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
