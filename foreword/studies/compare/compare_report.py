"""The report of a comparison: a dict for report.json, which the pages are drawn from, and the text for a terminal.

Keys beyond those of :mod:`foreword.evaluation.report.sections` are described in docs/report.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.task.task import Task
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import groups_of
from foreword.evaluation.report.rows_to_read import rows_to_read
from foreword.evaluation.report.summary import amount, evaluate, figure_text, heading, named
from foreword.evaluation.statistics.repeated_seeds import score_of_runs
from foreword.evaluation.statistics.verdict import Comparison
from foreword.messages import Message, say, say_if_known
from foreword.messages import width as terminal
from foreword.studies.compare.decisions import Decision, Runs, columns
from foreword.studies.compare.system_names import title

SCHEMA = 1


def summaries(task: Task, systems: Mapping[str, Runs], metrics: Sequence[str], level: float) -> dict[str, Any]:
    """Figures of each system on test; with several seeds the mean, with an interval over rows and seeds."""
    out: dict[str, Any] = {}
    for name, runs in systems.items():
        found = evaluate(runs.test[0], task.kind, _known(metrics, runs), task.labels)
        if len(runs.test) > 1:
            for metric, figure in found["metrics"].items():
                chosen = get_metric(metric)
                if chosen.sums is None:
                    continue
                pairs = [columns(chosen, run) for run in runs.test]
                outputs, groups = [pair[0] for pair in pairs], groups_of(runs.test[0])
                value, interval = score_of_runs(chosen, outputs, pairs[0][1], level=level, groups=groups)
                figure |= {"value": value, "low": interval.low, "high": interval.high, "method": interval.method}
                figure["runs"] = [chosen.corpus(*pair) for pair in pairs]
        out[name] = {**found, "seeds": len(runs.test), "dev": runs.dev}
    return out


def _known(metrics: Sequence[str], runs: Runs) -> Sequence[str]:
    """Copied answers have no likelihood, so no perplexity."""
    told = all(p.scores for p in runs.test[0])
    return [name for name in metrics if name != "perplexity" or told]


def tables(decision: Decision, report: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """The comparison's own tables, in reading order; those without lines are left out.

    Args:
        report: ``systems``, ``power``, ``costs``, ``retention``, ``curve`` and ``label_next``, as report.json has them.
    """
    power = {"title": "What the test set can show", "notes": [report["power"]["sentence"]], "head": [], "lines": []}
    contents = [
        _comparisons(decision),
        power,
        _costs(report["costs"], report["systems"], metric),
        *_retention(report["retention"]),
        *([_curve(report["curve"])] if report["curve"] is not None else []),
        *([_label_next(report["label_next"])] if report["label_next"] is not None else []),
    ]
    return [table for table in contents if table["lines"] or table["notes"]]


def _comparisons(decision: Decision) -> dict[str, Any]:
    note = Message(
        "Paired by row. Intervals hold together in each family; p-values are Holm's. Names were chosen on dev."
    )
    head = [
        "", "against", "difference", "interval", "p", "decision", "smallest visible difference",
        "rows for this difference",
    ]  # fmt: skip
    lines = [_compared(comparison) for comparison in (*decision.worth, *decision.which)]
    return {"title": "Comparisons", "notes": [note], "head": head, "lines": lines, "own": True}


def _curve(curve: Mapping[str, Any]) -> dict[str, Any]:
    points = {point["rows"]: point["value"] for point in curve["points"]}
    lines = [
        [point["rows"], _figure(curve, points.get(point["rows"])), _figure(curve, point["value"]),
         Message("{low} to {high}", low=_figure(curve, point["low"]), high=_figure(curve, point["high"]))]
        for point in curve["expected"]
    ]  # fmt: skip
    by_rows = Message("{metric} by training rows", metric=heading(curve["metric"]))
    chart = {"kind": "band", "title": by_rows, "metric": curve["metric"],
             "axis": "training rows", "points": curve["points"], "expected": curve["expected"]}  # fmt: skip
    return {"title": "Learning curve", "notes": [curve["sentence"]], "chart": chart,
            "head": ["training rows", "measured", "expected", "interval"], "lines": lines}  # fmt: skip


def _label_next(label_next: Mapping[str, Any]) -> dict[str, Any]:
    note = Message(
        "{n} of {m} rows are in {file}, the most telling first.",
        n=label_next["rows"], m=label_next["pool"], file=label_next["file"],
    )  # fmt: skip
    return {"title": "Rows to label next", "notes": [note], "head": [], "lines": []}


def prompts(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What each prompt says: the best of them is what training had to beat, so its text is shown."""
    lines = []
    for name, found in records.items():
        chosen = found[0].get("chosen") if found else None
        if chosen and "variant" in chosen:
            words = "\n".join(f"{label}: {text.strip()!r}" for label, text in chosen["variant"]["labels"].items())
            lines.append([_called(name), chosen["text"].strip(), chosen["template"], words])
    head = ["", "guidance", "template", "label words"]
    return {"title": "The prompts", "notes": [], "head": head, "lines": lines, "own": [0]}


def _called(name: str) -> str:
    """A system's title where it begins a line."""
    return Message("{name!c}", name=title(name))


def _figure(curve: Mapping[str, Any], value: float | None) -> str:
    return figure_text(curve["metric"], value)


def _compared(one: Comparison) -> list[Any]:
    metric = one.difference.metric
    low, high = (figure_text(metric, end, True) for end in one.bounds)
    decision = Message("better") if one.better else Message("worse") if one.worse else Message("cannot tell")
    p_value = "< 0.001" if one.corrected < 0.001 else f"{one.corrected:.3f}"
    needed = Message("more seeds") if one.rows_needed is None else f"{one.rows_needed:,}"
    shown = amount(metric, one.detectable, False)
    return [
        _called(one.a),
        _called(one.b),
        amount(metric, one.gain),
        Message("{low} to {high}", low=low, high=high),
        p_value,
        decision,
        shown,
        needed,
    ]


_COSTS = (
    ("trained values", "trained_values", "{:,.0f}"),
    ("bytes", "bytes", "{:,.0f}"),
    ("training s", "seconds", "{:.1f}"),
    ("training GFLOP", "training_gflop", "{:,.0f}"),
    ("GFLOP a row", "row_gflop", "{:.2f}"),
    ("ms a row", "ms", "{:.0f}"),
    ("tokens read a row", "read_tokens", "{:.0f}"),
    ("tokens saved", "saved_tokens", "{:.0f}"),
    ("price of a right answer", "price", "{:.3g}"),
)


def _costs(
    costs: Mapping[str, Mapping[str, Any]], systems: Mapping[str, Mapping[str, Any]], metric: str
) -> dict[str, Any]:
    kept = [one for one in _COSTS if any(cost.get(one[1]) is not None for cost in costs.values())]
    lines = [
        [_called(name), *("-" if cost.get(key) is None else form.format(cost[key]) for _, key, form in kept),
         "yes" if cost.get("pareto") else ""]
        for name, cost in costs.items()
    ]  # fmt: skip
    notes = [
        Message(
            "Training is that of one seed at its mean; seeds that train side by side share their time. Operations are "
            "counted, not measured; ms is one row alone, the prompt read anew each time. Tokens saved are those of the "
            "few-shot prompt (or the prompt, without one). The last column: no other system is at least as good for "
            "less work a row."
        )
    ]
    chart = {
        "kind": "pareto",
        "title": Message("{metric} by work", metric=heading(metric)),
        "metric": metric,
        "axis": "GFLOP a row, fewer is cheaper",
        "points": [
            {"name": _called(name), "x": cost["row_gflop"], "y": systems[name]["metrics"][metric]["value"],
             "front": bool(cost.get("pareto"))}
            for name, cost in costs.items()
        ],
    }  # fmt: skip
    head = ["", *(one[0] for one in kept), "best for its cost"]
    return {"title": "Costs", "notes": notes, "chart": chart, "head": head, "lines": lines, "own": True}


def _retention(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    notes = [found["unchanged_sentence"]]
    lines = [
        [_called(name), language, f"{one['base']:.2f}", f"{system['perplexity']:.2f}", f"{100 * system['drift']:+.1f}%"]
        for language, one in (found.get("neutral") or {}).items()
        for name, system in one["systems"].items()
    ]
    if found.get("neutral_reason"):
        notes.append(Message("Perplexity on neutral text was not measured: {why}.", why=found["neutral_reason"]))
    head = ["", "neutral text", "perplexity without", "with it in front", "drift"]
    made = [{"title": "Elsewhere", "notes": notes, "head": head, "lines": lines, "own": True}]
    other = found.get("other") or {}
    if "systems" in other:
        metric = other["metric"]
        rows = [
            [
                _called(name),
                figure_text(metric, other["base"]),
                figure_text(metric, one["value"]),
                amount(metric, one["change"]),
            ]
            for name, one in other["systems"].items()
        ]
        note = Message(
            "{n} rows of {file}, asked by their own prompt, {metric}.",
            n=other["rows"], file=other["data"], metric=heading(metric),
        )  # fmt: skip
        made.append({"title": "On another task", "notes": [note], "head": ["", "without", "with", "change"],
                     "lines": rows, "own": True})  # fmt: skip
    elif other:
        note = Message("Not measured: {why}.", why=other["reason"])
        made.append({"title": "On another task", "notes": [note], "head": [], "lines": []})
    return made


def read_rows(systems: Mapping[str, Runs], decision: Decision, metric: str) -> list[dict[str, Any]]:
    """Rows worth reading, by the best prompt and the best trained method."""
    names = [name for name in (decision.prompt, decision.trained) if name is not None]
    return rows_to_read({name: systems[name].test[0] for name in names}, metric)


def render(report: Mapping[str, Any]) -> str:
    """The verdict and a short table, for a terminal."""
    metric = report["metric"]
    lines = [*report["verdict_lines"], ""]
    titles = {name: say_if_known(title(name)) for name in report["systems"]}
    width = max(map(terminal.columns, titles.values()))
    for name, found in report["systems"].items():
        figure = found["metrics"][metric]
        ends = "" if figure["low"] is None else (
            f" [{figure_text(metric, figure['low'])}, {figure_text(metric, figure['high'])}]"
        )  # fmt: skip
        seeds = say(Message("  {n} seeds", n=found["seeds"])) if found["seeds"] > 1 else ""
        lines.append(
            f"  {terminal.padded(titles[name], width)}  {figure_text(metric, figure['value']):>6}{ends}{seeds}"
        )
    rows = next(iter(report["systems"].values()))["rows"]
    lines.append(Message("  ({metric}, {n} test rows)", metric=heading(metric), n=rows))
    if report.get("curve"):
        lines.append(report["curve"]["sentence"])
    best = (report.get("chosen_on_dev") or {}).get("prompt")
    for line in next((table["lines"] for table in report["tables"] if table["title"] == "The prompts"), []):
        if best is not None and line[0] == _called(best):
            lines.append(f"{titles.get(best, title(best))}: {line[1] or line[2]!r}")
    lines += [Message("note: {text}", text=named(warning)) for warning in report["warnings"]]
    if report.get("gate"):
        gate = report["gate"]
        facts = {"text": gate["text"], "said": gate["said"]}
        met = Message("met: {text} ({said})", **facts)
        lines.append(met if gate["met"] else Message("NOT MET: {text} ({said})", **facts))
    return "\n".join(map(say_if_known, lines))
