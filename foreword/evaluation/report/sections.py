"""What a report says, as blocks: Markdown and HTML only differ in how they draw a block.

The report is a plain dict; every key may be absent, and its section is then left out:

    title, verdict, created   text; the verdict is the first sentence a reader sees
    verdict_lines             list of sentences; those after the verdict follow it
    gate                      {text, met, said}: a requirement and whether it is met
    warnings                  list of texts, shown below the results
    systems                   name -> result of summary.evaluate, e.g. prompt, foreword
    titles                    name -> how a system is called; its name where there is none
    chosen_on_dev             {prompt, trained}: the systems whose classes are shown; those of others are folded
    difference                :meth:`foreword.evaluation.statistics.intervals.Difference.to_json`, foreword minus prompt
    base, method, task, settings, file, versions     text or dict, shown as tables of settings
    again                     the command that makes these results again
    data                      split name -> dict (rows, kept, dropped, file, digest, ...)
    training                  dict: steps [{step, loss, ...}], evaluations [{step, value}], metric,
                              sweep [{learning_rate, value, ...}], and single figures (seconds, best_step, ...)
    rows                      list of {id, input, gold, outputs: {system: output}, why} worth reading; ``why`` as in
                              :mod:`foreword.evaluation.report.rows_to_read`, or absent
    tables                    list of {title, notes, chart, head, lines, own, folded}: tables of a command's own, after
                              the results; own: the cells are the program's words (true, or a list of the columns
                              where they are); folded: true, or "lines" where only they are; chart: {kind, title,
                              metric, points},
                              a ``steps`` (points: name, value, low, high, beside; line), ``pareto`` (points: name, x,
                              y, front; axis) or ``band`` (points: rows, value; expected: rows, value, low, high; axis)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.report import charts, plane_charts
from foreword.evaluation.report.blocks import Block, Chart, Items, Section, Table, Text, records, settings, short
from foreword.evaluation.report.rows_to_read import WHY
from foreword.evaluation.report.summary import figure_text, heading

MAX_ROWS = 50
_CLASSES_SHOWN = 2


def sections(report: Mapping[str, Any]) -> list[Section]:
    """The report's content in reading order, sections without content left out."""
    called = _Called(report.get("titles") or {})
    systems = report.get("systems") or {}
    made = [
        Section("", list(_opening(report))),
        Section("Results", list(_results(systems, called))),
        Section("Notes", list(_notes(report, called))),
        *(Section(str(one.get("title", "")), list(_own(one)), one.get("folded") is True) for one in _tables(report)),
        *_classes(systems, _shown(report, systems), called),
        Section("Training", list(_training(report.get("training") or {}))),
        Section("Rows to read", list(_rows(report.get("rows") or [], called))),
        Section("Run it again", [Text(str(report["again"]))] if report.get("again") else []),
        Section("Data", list(_splits(report.get("data") or {})), folded=True),
    ]
    for key in ("base", "method", "task", "settings", "file", "versions"):
        made.append(Section(key.capitalize(), list(settings(report.get(key))), folded=True))
    return [section for section in made if section.blocks]


class _Called:
    """How systems are called: by their titles, begun with a capital."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.titles = titles

    def __call__(self, name: str) -> str:
        title = self.titles.get(name)
        return name if title is None else title[:1].upper() + title[1:]


def _tables(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return report.get("tables") or []


def _opening(report: Mapping[str, Any]) -> Iterator[Block]:
    if report.get("verdict"):
        said = str(report["verdict"])
        yield Text(said[:1].upper() + said[1:], "lead")
    more = [str(line) for line in report.get("verdict_lines") or [] if line != report.get("verdict")]
    if more:
        yield Items(more)
    if report.get("gate"):
        gate = report["gate"]
        yield Text(f"{'Met' if gate['met'] else 'Not met'}: {gate['text']} ({gate['said']})", "part")
    difference = report.get("difference")
    if difference:
        yield Text(_difference_text(difference))
    if report.get("created"):
        yield Text(f"Created {report['created']}.")


def _notes(report: Mapping[str, Any], called: _Called) -> Iterator[Text]:
    for warning in report.get("warnings") or []:
        yield Text(str(warning), "warning")
    alike = [called(name) for name, system in (report.get("systems") or {}).items() if system.get("constant")]
    if alike:
        yield Text(f"The same answer to every row: {', '.join(alike)}", "warning")


def _difference_text(difference: Mapping[str, Any]) -> str:
    name, interval = difference["metric"], difference["interval"]
    figures = [_figure(name, value, True) for value in (difference["estimate"], interval["low"], interval["high"])]
    return (
        f"Paired difference, foreword minus prompt, in {_title(name)}: {figures[0]} "
        f"({100 * interval['level']:g}% interval {figures[1]} to {figures[2]}, {interval['method']}; "
        f"{difference['test']} p = {difference['p_value']:.4g}; {difference['rows']} rows)."
    )


def _own(table: Mapping[str, Any]) -> Iterator[Block]:
    yield from (Text(str(note)) for note in table.get("notes") or [])
    if table.get("chart"):
        yield Chart(_drawn(table["chart"]))
    if table.get("lines"):
        lines = [[short(cell) for cell in line] for line in table["lines"]]
        own = table.get("own") or ()
        words: Literal["all", "head"] = "all" if own is True else "head"
        head, folded = [str(cell) for cell in table["head"]], table.get("folded") == "lines"
        yield Table(head, lines, words=words, own=() if own is True else own, folded=folded)


def _drawn(chart: Mapping[str, Any]) -> str:
    title, metric = str(chart["title"]), str(chart["metric"])

    def text(value: float) -> str:
        return _figure(metric, value)

    if chart.get("kind") == "pareto":
        return plane_charts.pareto(title, chart["axis"], chart["points"], text)
    if chart.get("kind") == "band":
        points = [(point["rows"], point["value"]) for point in chart["points"]]
        return plane_charts.band(title, chart["axis"], points, chart["expected"], text)
    return charts.steps(title, chart["points"], text, chart.get("line"))


def _title(name: str) -> str:
    return heading(name) if name in METRICS else name


def _figure(name: str, value: float | None, signed: bool = False) -> str:
    return figure_text(name, value, signed) if name in METRICS else short(value)


def _results(systems: Mapping[str, Mapping[str, Any]], called: _Called) -> Iterator[Block]:
    names = list(dict.fromkeys(name for system in systems.values() for name in system["metrics"]))
    if not names:
        return
    lines = []
    for system, summary in systems.items():
        cells = [_result(name, summary["metrics"].get(name)) for name in names]
        lines.append([called(system), *cells, str(summary.get("rows", ""))])
    figures = {called(name): s["metrics"][names[0]] for name, s in systems.items() if names[0] in s["metrics"]}
    yield Chart(charts.intervals(_title(names[0]), figures, lambda value: _figure(names[0], value)))
    yield Table(["", *map(_title, names), "rows"], lines, words="all")


def _result(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    text = _figure(name, figure["value"])
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} [{_figure(name, figure['low'])}, {_figure(name, figure['high'])}]"


def _shown(report: Mapping[str, Any], systems: Mapping[str, Any]) -> list[str]:
    """The systems whose classes are shown at once: those that the verdict is about, or all where there are few."""
    chosen = report.get("chosen_on_dev") or {}
    named = [str(chosen[key]) for key in ("trained", "prompt") if chosen.get(key) in systems]
    return named or (list(systems) if len(systems) <= _CLASSES_SHOWN else [])


def _classes(systems: Mapping[str, Mapping[str, Any]], shown: Sequence[str], called: _Called) -> Iterator[Section]:
    for system in (*shown, *(name for name in systems if name not in shown)):
        report = systems[system].get("report")
        if not report:
            continue
        keys = ("precision", "recall", "f1")
        lines = [
            [label, *(f"{100 * row[key]:.1f}" for key in keys), str(row["support"])]
            for label, row in report["classes"].items()
        ]
        matrix = [_confusion(report)] if "confusion" in report else []
        blocks = [Table(["class", *keys, "support"], lines), *matrix]
        yield Section(f"Classes: {called(system)}", blocks, folded=system not in shown)


def _confusion(report: Mapping[str, Any]) -> Table:
    labels, matrix = report["labels"], report["confusion"]
    shades: list[list[float | None]] = [[None, *(n / (sum(line) or 1) for n in line)] for line in matrix]
    lines = [[label, *map(str, line)] for label, line in zip(labels, matrix, strict=True)]
    return Table(["gold \\ answer", *labels], lines, shades, words="corner")


def _training(training: Mapping[str, Any]) -> Iterator[Block]:
    metric = str(training.get("metric", "metric"))
    curves = [
        ("Training loss", training.get("steps") or [], "loss", short),
        (f"Dev {_title(metric)}", training.get("evaluations") or [], "value", lambda value: _figure(metric, value)),
    ]
    for title, points, key, text in curves:
        line = [(p["step"], p[key]) for p in points if _is_number(p.get("step")) and _is_number(p.get(key))]
        if len(line) > 1:
            yield Chart(charts.curve(title, "step", line, text))
    for key in ("sweep", "evaluations"):
        if training.get(key):
            yield records(training[key])
    yield from settings({k: v for k, v in training.items() if k not in ("steps", "evaluations", "sweep")})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _splits(data: Mapping[str, Any]) -> Iterator[Text | Table]:
    splits = {name: split for name, split in data.items() if isinstance(split, Mapping)}
    if splits:
        shown = [
            {"split": name, **{k: len(v) if isinstance(v, (list, tuple)) else v for k, v in split.items()}}
            for name, split in splits.items()
        ]
        yield records(shown)
    yield from settings({name: value for name, value in data.items() if name not in splits})


def _rows(rows: Sequence[Mapping[str, Any]], called: _Called) -> Iterator[Block]:
    """A table for each reason why rows are worth reading, in the order of :data:`WHY`, behind those without one."""
    groups: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in rows[:MAX_ROWS]:
        groups.setdefault(row.get("why"), []).append(row)
    for why in (None, *WHY):
        if why not in groups:
            continue
        found = groups[why]
        systems = list(dict.fromkeys(name for row in found for name in row.get("outputs", {})))
        if why is not None:
            first, last = called(systems[0]), called(systems[-1])
            yield Text(WHY[why].format(first=first, last=last), "part")
        lines = []
        for row in found:
            texts = [row.get("input", ""), row.get("gold", ""), *(row["outputs"].get(name, "") for name in systems)]
            lines.append([short(row.get("id", "")), *map(short, texts)])
        yield Table(["id", "input", "gold", *map(called, systems)], lines)
    if len(rows) > MAX_ROWS:
        yield Text(f"{len(rows) - MAX_ROWS} more rows are in report.json.")
