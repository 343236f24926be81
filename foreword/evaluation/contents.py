"""What a report says, as blocks: Markdown and HTML only differ in how they draw a block.

The report is a plain dict; every key may be absent, and its section is then left out:

    title, verdict, created   text; the verdict is the first sentence a reader sees
    warnings                  list of texts
    systems                   name -> result of :func:`foreword.evaluation.summary.evaluate`, e.g. prompt, foreword
    difference                :meth:`foreword.evaluation.statistics.Difference.to_json`, foreword minus prompt
    base, method, task, settings, file, versions     text or dict, shown as tables of settings
    data                      split name -> dict (rows, kept, dropped, file, digest, ...)
    training                  dict: steps [{step, loss, ...}], evaluations [{step, value}], metric,
                              sweep [{learning_rate, value, ...}], and single figures (seconds, best_step, ...)
    rows                      list of {id, input, gold, outputs: {system: output}} worth reading
    tables                    list of {title, notes, chart, head, lines}: tables of a command's own, after the results;
                              chart: {title, metric, points [{name, value, low, high}], line}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreword.evaluation import charts
from foreword.evaluation.metrics import METRICS
from foreword.evaluation.summary import figure_text, heading

MAX_ROWS = 50
MAX_TEXT = 400


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``plain``, ``lead`` (the verdict) or ``warning``."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """Cells as text, the first column naming the line; ``shades`` (0 to 1, or None) colours cells in HTML."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float | None]] | None = None


@dataclass(frozen=True)
class Chart:
    """A finished SVG element, for HTML alone: Markdown shows the table beside it."""

    svg: str


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: Sequence[Text | Table | Chart]


def sections(report: Mapping[str, Any]) -> list[Section]:
    """The report's content in reading order, sections without content left out."""
    made = [
        Section("", list(_opening(report))),
        Section("Results", list(_results(report.get("systems") or {}))),
        *_classes(report.get("systems") or {}),
        *(Section(str(one.get("title", "")), list(_own(one))) for one in report.get("tables") or []),
        Section("Training", list(_training(report.get("training") or {}))),
        Section("Rows to read", list(_rows(report.get("rows") or []))),
        Section("Data", list(_splits(report.get("data") or {}))),
    ]
    for key in ("base", "method", "task", "settings", "file", "versions"):
        made.append(Section(key.capitalize(), list(_settings(report.get(key)))))
    return [section for section in made if section.blocks]


def _opening(report: Mapping[str, Any]) -> Iterator[Text]:
    if report.get("verdict"):
        yield Text(str(report["verdict"]), "lead")
    for warning in report.get("warnings") or []:
        yield Text(str(warning), "warning")
    difference = report.get("difference")
    if difference:
        yield Text(_difference_text(difference))
    if report.get("created"):
        yield Text(f"Created {report['created']}.")


def _difference_text(difference: Mapping[str, Any]) -> str:
    name, interval = difference["metric"], difference["interval"]
    figures = [_figure(name, value, True) for value in (difference["estimate"], interval["low"], interval["high"])]
    return (
        f"Paired difference, foreword minus prompt, in {_title(name)}: {figures[0]} "
        f"({100 * interval['level']:g}% interval {figures[1]} to {figures[2]}, {interval['method']}; "
        f"{difference['test']} p = {difference['p_value']:.4g}; {difference['rows']} rows)."
    )


def _own(table: Mapping[str, Any]) -> Iterator[Text | Table | Chart]:
    yield from (Text(str(note)) for note in table.get("notes") or [])
    if table.get("chart"):
        drawn = table["chart"]
        metric = str(drawn["metric"])
        yield Chart(charts.steps(drawn["title"], drawn["points"], lambda v: _figure(metric, v), drawn.get("line")))
    if table.get("lines"):
        yield Table([str(cell) for cell in table["head"]], [[short(cell) for cell in line] for line in table["lines"]])


def _title(name: str) -> str:
    return heading(name) if name in METRICS else name


def _figure(name: str, value: float | None, signed: bool = False) -> str:
    return figure_text(name, value, signed) if name in METRICS else short(value)


def _results(systems: Mapping[str, Mapping[str, Any]]) -> Iterator[Text | Table | Chart]:
    names = list(dict.fromkeys(name for system in systems.values() for name in system["metrics"]))
    if not names:
        return
    lines = []
    for system, summary in systems.items():
        cells = [_result(name, summary["metrics"].get(name)) for name in names]
        lines.append([system, *cells, str(summary.get("rows", ""))])
        if summary.get("constant"):
            yield Text(f"{system} gives the same answer to every row", "warning")
    figures = {name: s["metrics"][names[0]] for name, s in systems.items() if names[0] in s["metrics"]}
    yield Chart(charts.intervals(_title(names[0]), figures, lambda value: _figure(names[0], value)))
    yield Table(["", *map(_title, names), "rows"], lines)


def _result(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    text = _figure(name, figure["value"])
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} [{_figure(name, figure['low'])}, {_figure(name, figure['high'])}]"


def _classes(systems: Mapping[str, Mapping[str, Any]]) -> Iterator[Section]:
    for system, summary in systems.items():
        report = summary.get("report")
        if not report:
            continue
        keys = ("precision", "recall", "f1")
        lines = [
            [label, *(f"{100 * row[key]:.1f}" for key in keys), str(row["support"])]
            for label, row in report["classes"].items()
        ]
        matrix = [_confusion(report)] if "confusion" in report else []
        yield Section(f"Classes: {system}", [Table(["class", *keys, "support"], lines), *matrix])


def _confusion(report: Mapping[str, Any]) -> Table:
    labels, matrix = report["labels"], report["confusion"]
    shades: list[list[float | None]] = [[None, *(n / (sum(line) or 1) for n in line)] for line in matrix]
    lines = [[label, *map(str, line)] for label, line in zip(labels, matrix, strict=True)]
    return Table(["gold \\ answer", *labels], lines, shades)


def _training(training: Mapping[str, Any]) -> Iterator[Text | Table | Chart]:
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
        records = training.get(key) or []
        if records:
            yield Table(*_records(records))
    yield from _settings({k: v for k, v in training.items() if k not in ("steps", "evaluations", "sweep")})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _records(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    head = list(dict.fromkeys(key for record in records for key in record))
    return head, [[short(record.get(key)) for key in head] for record in records]


def _splits(data: Mapping[str, Any]) -> Iterator[Text | Table]:
    splits = {name: split for name, split in data.items() if isinstance(split, Mapping)}
    if splits:
        shown = [
            {"split": name, **{k: len(v) if isinstance(v, (list, tuple)) else v for k, v in split.items()}}
            for name, split in splits.items()
        ]
        yield Table(*_records(shown))
    yield from _settings({name: value for name, value in data.items() if name not in splits})


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[Text | Table]:
    if not rows:
        return
    systems = list(dict.fromkeys(name for row in rows for name in row.get("outputs", {})))
    lines = []
    for row in rows[:MAX_ROWS]:
        texts = [row.get("input", ""), row.get("gold", ""), *(row.get("outputs", {}).get(name, "") for name in systems)]
        lines.append([short(row.get("id", "")), *map(short, texts)])
    yield Table(["id", "input", "gold", *systems], lines)
    if len(rows) > MAX_ROWS:
        yield Text(f"{len(rows) - MAX_ROWS} more rows are in report.json.")


def _settings(value: object) -> Iterator[Text | Table]:
    if isinstance(value, Mapping):
        if value:
            yield Table(["key", "value"], list(_flat(value)))
    elif value is not None:
        yield Text(short(value))


def _flat(settings: Mapping[Any, Any], front: str = "") -> Iterable[list[str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{front}{key}.")
        else:
            yield [f"{front}{key}", short(value)]


def short(value: object) -> str:
    """Any JSON value as a cell: floats with five digits, long texts cut with the number of characters left out."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} more characters)"
