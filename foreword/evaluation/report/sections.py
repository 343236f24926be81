"""What a report says, as blocks: Markdown and HTML only differ in how they draw a block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.report import charts
from foreword.evaluation.report.blocks import (
    Answer,
    Block,
    Chart,
    Page,
    ReadRow,
    ReadRows,
    Section,
    Table,
    Text,
    Words,
    records,
    settings,
    short,
)
from foreword.evaluation.report.report_types import Report
from foreword.evaluation.report.rows_to_read import WHY, why_text
from foreword.evaluation.report.summary import always, constant_answer, figure_cell, figure_text, heading
from foreword.evaluation.report.translator import Translator
from foreword.evaluation.report.verdict_card import card_of
from foreword.messages import Message

_CLASSES_SHOWN = 2


def page_of(report: Report, translator: Translator) -> Page:
    """The report's content in reading order, sections without content left out."""
    called = Called(report.titles, translator)
    told = report.deciding()
    made = [
        Section("Notes", [Text(text, "warning") for text in _warnings(report, called)]),
        Section("What is asked", list(_asked(report.task))),
        Section("Results", list(_results(report, told, called)), beside=True),
        *(_of_table(one, translator) for one in report.tables),
        *_classes(report, called),
        Section("Training", list(_training(report.training)), beside=True),
        Section("Rows to read", list(_rows(report.rows, called))),
        Section("Reproduce", list(_reproduce(report)), folded=True),
    ]  # fmt: skip
    return Page(
        report.title,
        report.subtitle or (Message("Created {when}.", when=report.created) if report.created else ""),
        card_of(report, called),
        [section for section in made if section.blocks],
        report.language,
    )


class Called:
    """How systems are called: by their titles, begun with a capital."""

    def __init__(self, titles: Mapping[str, str], translator: Translator) -> None:
        self.titles, self.translator = titles, translator

    def __call__(self, name: str) -> str:
        inside = self.inside(name)
        return inside if inside == name else Message("{name!c}", name=inside)

    def inside(self, name: str) -> str:
        """As in the middle of a sentence."""
        title = self.titles.get(name) or {"prompt": "the prompt", "foreword": "the foreword"}.get(name)
        return name if title is None else self.translator.ours(title)


def _warnings(report: Report, called: Called) -> Iterator[str]:
    """What the verdict's card does not show already."""
    yield from (text for text in report.warnings if report.verdict is None)
    alike = [called(name) for name, system in report.systems.items() if system.get("constant") and name != "majority"]
    if alike:
        yield Message("The same answer to every row: {names}", names=alike)


def _asked(task: dict[str, Any] | str | None) -> Iterator[Block]:
    if not isinstance(task, Mapping) or not task.get("template"):
        return
    words = task.get("verbalizer") or {}
    parts = [("prompt", str(task.get("guidance") or "").strip()), ("template", str(task["template"]))]
    parts.append(("label words", "\n".join(f"{label}: {text.strip()!r}" for label, text in words.items())))
    yield Words([(name, text) for name, text in parts if text])


def _of_table(table: Mapping[str, Any], translator: Translator) -> Section:
    beside = bool(table.get("chart")) and bool(table.get("lines"))
    return Section(table.get("title") or "", list(_own(table, translator)), table.get("folded") is True, beside)


def _own(table: Mapping[str, Any], translator: Translator) -> Iterator[Block]:
    yield from (Text(note) for note in table.get("notes") or [])
    if table.get("chart"):
        yield Chart(_drawn(table["chart"], translator))
    if table.get("lines"):
        lines = [[short(cell) for cell in line] for line in table["lines"]]
        own = table.get("own") or ()
        words: Literal["all", "head"] = "all" if own is True else "head"
        head, folded = [short(cell) for cell in table["head"]], table.get("folded") == "lines"
        yield Table(head, lines, words=words, own=() if own is True else own, folded=folded)


def _drawn(chart: Mapping[str, Any], translator: Translator) -> str:
    metric, title = str(chart["metric"]), translator.ours(chart["title"])

    def text(value: float) -> str:
        return _figure(metric, value)

    if chart.get("kind") == "pareto":
        points = [{**point, "name": translator.ours(point["name"])} for point in chart["points"]]
        return charts.pareto(title, translator.ours(chart["axis"]), points, text)
    if chart.get("kind") == "band":
        measured = [(point["rows"], point["value"]) for point in chart["points"]]
        return charts.band(title, translator.ours(chart["axis"]), measured, chart["expected"], text)
    return charts.steps(title, chart["points"], text, chart.get("line"))


def _title(name: str) -> str:
    return heading(name) if name in METRICS else name


def _figure(name: str, value: float | None, signed: bool = False) -> str:
    return figure_text(name, value, signed) if name in METRICS else short(value)


def _results(report: Report, told: str | None, called: Called) -> Iterator[Block]:
    """The metric that decides as a chart beside the table, then the others, small."""
    systems = report.systems
    names = list(dict.fromkeys(name for system in systems.values() for name in system.get("metrics", {})))
    if told is None:
        return
    names.sort(key=lambda name: name != told)
    titles = {system: called(system) for system in systems}
    lines = [
        [titles[system], *(_cell(name, one["metrics"].get(name)) for name in names), str(one.get("rows", ""))]
        for system, one in systems.items()
    ]
    constant = None if "majority" in systems else constant_answer(systems)
    if constant is not None:
        reached = [_figure(name, constant["metrics"].get(name)) for name in names]
        lines.append([always(constant["output"]), *reached, str(next(iter(systems.values())).get("rows", ""))])
    for name in names:
        figures = {titles[s]: one["metrics"][name] for s, one in systems.items() if name in one["metrics"]}
        if constant is not None and constant["metrics"].get(name) is not None:
            figures[always(constant["output"])] = {"value": constant["metrics"][name]}
        drawn = charts.intervals(_title(name), figures, lambda value, name=name: _figure(name, value))  # type: ignore[misc]
        yield Chart(drawn, small=name != told)
        if name == told:
            yield Table(["", *map(_title, names), "rows"], lines, words="all")


def _cell(name: str, figure: Any) -> str:
    return figure_cell(name, figure) if name in METRICS else short(figure and figure["value"])


def _classes(report: Report, called: Called) -> Iterator[Section]:
    """Classes of the systems that the verdict is about, beside each other; those of others folded."""
    systems = {name: one["report"] for name, one in report.systems.items() if one.get("report")}
    shown = [name for name in report.compared() if name in systems][:_CLASSES_SHOWN] if systems else []
    if shown:
        blocks = [block for name in shown for block in _of_classes(systems[name], called(name))]
        yield Section("Classes", blocks, beside=True)
    for name in systems:
        if name not in shown:
            title = Message("Classes: {a}", a=called(name))
            yield Section(title, list(_of_classes(systems[name], "")), folded=True)


def _of_classes(report: Mapping[str, Any], title: str) -> Iterator[Block]:
    """The confusion matrix with recall and precision at its edges; precision, recall and F1 where there is none."""
    classes = report["classes"]
    if "confusion" not in report:
        lines = [[label, *(f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1")), str(row["support"])]
                 for label, row in classes.items()]  # fmt: skip
        yield Table([title, "precision", "recall", "f1", "support"], lines)
        return
    labels, matrix = report["labels"], report["confusion"]
    shades: list[list[float | None]] = [[None, *(n / (sum(line) or 1) for n in line), None, None] for line in matrix]
    lines = [
        [label, *map(str, line), _percent(classes.get(label), "recall"), _percent(classes.get(label), "f1")]
        for label, line in zip(labels, matrix, strict=True)
    ]
    lines.append([Message("precision"), *(_percent(classes.get(label), "precision") for label in labels), "", ""])
    shades.append([None] * (len(labels) + 3))
    corner = Message("{name}: gold \\ answer", name=title) if title else Message("gold \\ answer")
    yield Table([corner, *labels, Message("recall"), Message("f1")], lines, shades, words="corner")


def _percent(row: Mapping[str, Any] | None, key: str) -> str:
    return "" if row is None else f"{100 * row[key]:.1f}"


def _training(training: Mapping[str, Any]) -> Iterator[Block]:
    """One chart and one sentence; the figures are folded into the last section."""
    metric = str(training.get("metric", "metric"))
    curves = [
        [(p["step"], p[key]) for p in training.get(name) or [] if _is_number(p.get("step")) and _is_number(p.get(key))]
        for name, key in (("steps", "loss"), ("evaluations", "value"))
    ]
    prompt = training.get("prompt_on_dev")
    if any(curves):
        names = (Message("By step"), Message("Training loss"), Message("Dev {metric}", metric=_title(metric)))
        level = float(prompt) if isinstance(prompt, (int, float)) else None
        yield Chart(charts.training(curves[0], curves[1], names, lambda value: _figure(metric, value), level))
        text = _learned(training, metric)
        if text is not None:
            yield Text(text)


def _learned(training: Mapping[str, Any], metric: str) -> Message | None:
    if any(training.get(key) is None for key in ("best_step", "learning_rate", "dev", "seconds")):
        return None
    facts = {
        "step": training["best_step"],
        "rate": f"{training['learning_rate']:g}",
        "seconds": f"{training['seconds']:.0f}",
        "metric": _title(metric),
        "dev": _figure(metric, training["dev"]),
    }
    if training.get("prompt_on_dev") is None:
        return Message(
            "Best at step {step} with learning rate {rate}: {metric} {dev} on dev; {seconds} s in all.", **facts
        )
    prompt = _figure(metric, training["prompt_on_dev"])
    form = (
        "Best at step {step} with learning rate {rate}: {metric} {dev} on dev, the prompt (broken line) {prompt}; "
        "{seconds} s in all."
    )
    return Message(form, prompt=prompt, **facts)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _rows(rows: Sequence[Mapping[str, Any]], called: Called) -> Iterator[Block]:
    """Rows for each reason in the order of :data:`WHY`, those without one first."""
    if not rows:
        return
    systems = list(dict.fromkeys(name for row in rows for name in row.get("outputs", {})))
    reasons = [why for why in WHY if any(row.get("why") == why for row in rows)]
    order = sorted(rows, key=lambda row: -1 if row.get("why") is None else WHY.index(row["why"]))
    read = [
        ReadRow(
            str(row.get("why") or ""),
            short(row.get("input", "")),
            short(row.get("gold", "")),
            [_answer(row, name) for name in systems],
        )
        for row in order
    ]
    names = [called(name) for name in systems]
    ends = [called.inside(name) for name in (systems[:1] + systems[-1:])] or ["", ""]
    yield ReadRows(names, read, {why: why_text(why, ends[0], ends[1]) for why in reasons})


def _answer(row: Mapping[str, Any], name: str) -> Answer:
    output, gold = row["outputs"].get(name, ""), row.get("gold", "")
    right = output == gold if gold else None
    return Answer(short(output), right, (row.get("sure") or {}).get(name))


def _reproduce(report: Report) -> Iterator[Block]:
    """All that the result depends on: it is for whoever does it again."""
    if report.again:
        yield Text(report.again, "code")
    parts: dict[str, list[Block]] = {"Data": list(_splits(report.data))}
    for key in ("base", "method", "task", "settings", "file", "versions"):
        parts[key.capitalize()] = list(settings(getattr(report, key)))
    parts["Training"] = list(_training_figures(report.training))
    for title, blocks in parts.items():
        if blocks:
            yield Text(Message(title), "part")
            yield from blocks


def _training_figures(training: Mapping[str, Any]) -> Iterator[Block]:
    for key in ("sweep", "evaluations"):
        if training.get(key):
            yield records(training[key])
    yield from settings({k: v for k, v in training.items() if k not in ("steps", "evaluations", "sweep")})


def _splits(data: Mapping[str, Any]) -> Iterator[Text | Table]:
    splits = {name: split for name, split in data.items() if isinstance(split, Mapping)}
    if splits:
        shown = [
            {"split": name, **{k: len(v) if isinstance(v, (list, tuple)) else v for k, v in split.items()}}
            for name, split in splits.items()
        ]
        yield records(shown)
    yield from settings({name: value for name, value in data.items() if name not in splits})
