"""Every problem of the data at once, with its place, before any model is loaded."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from foreword.data.quality.check_report import CheckReport, clean
from foreword.data.quality.duplicates import Entry, near_repeats, repeated
from foreword.data.quality.label_names import alike, nearest
from foreword.data.quality.unicode import cjk_share
from foreword.data.row import Problem, Row, what_it_is
from foreword.data.table import Table
from foreword.data.task.columns import Kind, target_texts
from foreword.data.task.guidance import front_of, of_row, replaced
from foreword.data.task.tagging import is_bio, problems_of, tag_set, words_of
from foreword.data.task.task import Task
from foreword.data.task.template import Template, empty_fields, parsed
from foreword.errors import TemplateError
from foreword.messages import Message

__all__ = ["CheckReport", "check_tables", "clean"]


def check_tables(
    tables: Mapping[str, Table],
    task: Task | None,
    *,
    tokenize: Callable[[str], Sequence[int]] | None = None,
    context: int | None = None,
    lead: int = 0,
) -> CheckReport:
    """Check splits together.

    Args:
        tables: split name -> table; name the training split first (``train``).
        task: its template and labels are checked too; None: the layout's columns, and the labels of the first split.
        tokenize: text -> ids; without it nothing is said about lengths.
        context: most tokens the model reads; None: any length.
        lead: tokens in front of every row (guidance, virtual tokens).

    Exact duplicates across splits are errors of the earlier split's row (the test row stays as it is); conflicting
    labels in one split are errors of every row concerned. Near duplicates are warnings.

    Raises:
        TemplateError: the template names a column that is not there.
    """
    problems: list[Problem] = []
    entries: list[Entry] = []
    for name, table in tables.items():
        problems += [replace(problem, split=name) for problem in table.problems]
        bad = {problem.row_id for problem in _fields(name, table, task, problems)}
        bad |= {problem.row_id for problem in _tags(name, tables, task, problems) if problem.severity == "error"}
        target = task.target if task else table.layout.target
        inputs = _inputs(table, task)
        entries += [Entry(name, row, inputs, target) for row in table.rows if row.id not in bad]
    several = _kind(tables, task) == "multilabel"
    classes = several or _kind(tables, task) == "classification"
    if classes:
        problems += _labels(tables, entries, task, several)
    problems += repeated(entries, classes)
    problems += near_repeats(entries, classes)
    problems += _kept_whole(tables, task)
    problems += _leaks(tables, task)
    tokens = _tokens(tables, entries, task, problems, tokenize, context, lead) if tokenize else {}
    balance = {name: _balance(entries, name, several) for name in tables} if classes else {}
    return CheckReport(
        tuple(problems), _counts(tables, problems), balance, tokens, tuple(_notes(tables, task, several))
    )


def _inputs(table: Table, task: Task | None) -> tuple[str, ...]:
    """What the model sees of a row: the template's fields, or the layout's without a task."""
    if task is None:
        return table.layout.inputs
    fields = parsed(task.template).fields | {task.guidance_column}
    return tuple(name for name in table.columns if name in fields)


def _kind(tables: Mapping[str, Table], task: Task | None) -> Kind:
    """What the task is, as far as the first table says."""
    return task.kind if task is not None else next(iter(tables.values())).layout.kind


def _fields(name: str, table: Table, task: Task | None, problems: list[Problem]) -> list[Problem]:
    """Missing and empty fields; they are added to ``problems`` and returned."""
    layout = table.layout
    template = parsed(task.template) if task else None
    if template and task:
        template.validate(table.columns, (task.target, task.guidance_column))
    target = task.target if task else layout.target
    kind_of_task = task.kind if task else layout.kind
    found: list[Problem] = []
    for row in table.rows:
        if template:
            names = empty_fields(template, row.fields)
        else:
            needed = [one for one in layout.inputs if one not in layout.optional]
            names = [one for one in needed if not str(row.fields.get(one) or "").strip()]
        if target and not target_texts(row, target) and not what_it_is(row.fields.get(target)):
            names.append(target)
        for kind, message in _not_text(row, task, template, target, kind_of_task):
            found.append(Problem(kind, str(row.source), message, "error", row.id, name))
        for field in names:
            kind = "empty" if field in row.fields else "missing"
            message = Message("the field {field!r} is {kind}", field=field, kind=Message(kind))
            found.append(Problem(kind, str(row.source), message, "error", row.id, name))
    problems += found
    return found


def _not_text(
    row: Row, task: Task | None, template: Template | None, target: str, kind: Kind
) -> Iterator[tuple[str, str]]:
    """What of a row is no text although it has to be: kind and message."""
    if template and task:
        message = template.not_text(row.fields, of_row(task, row.fields))
        if message:
            yield "not_text", message
    answer = row.fields.get(target)
    if not target or not what_it_is(answer):
        return
    several = target_texts(row, target)
    if kind == "multilabel" and isinstance(answer, list) and not any(map(what_it_is, answer)):
        return
    if kind == "classification" and len(several) > 1:
        form = "the row has several labels ({names}), and one label a row is learned; --task multilabel learns several"
        yield "several_labels", Message(form, names=", ".join(several))
    elif not several or isinstance(answer, Mapping):
        yield (
            "not_text",
            Message("the field {target!r} is {what_it_is}, and no text", target=target, what_it_is=what_it_is(answer)),
        )


def _tags(name: str, tables: Mapping[str, Table], task: Task | None, problems: list[Problem]) -> Sequence[Problem]:
    """Tags that do not fit the words or each other; they are added to ``problems`` and returned."""
    table, first = tables[name], next(iter(tables.values()))
    if (task.kind if task else table.layout.kind) != "tagging":
        return ()
    words, target = (task.words, task.target) if task else (table.layout.inputs[0], table.layout.target)
    known = task.labels if task else tag_set(first.rows, first.layout.target)
    bio, found = is_bio(known), []
    for row in table.rows:
        if words_of(row.fields.get(words)) and words_of(row.fields.get(target)):
            for kind, message, severity in problems_of(row, words, target, known, bio):
                found.append(Problem(kind, str(row.source), message, severity, row.id, name))
    problems += found
    return found


def _of_entry(entry: Entry, several: bool) -> list[str]:
    """The label of a row, or its labels where it may have several."""
    return entry.answer.split("\n") if several and entry.answer else [] if several else [entry.answer]


def _labels(
    tables: Mapping[str, Table], entries: Sequence[Entry], task: Task | None, several: bool
) -> Iterator[Problem]:
    first = next(iter(tables), "")
    if task:
        known = set(task.labels)
    else:
        known = {label for entry in entries if entry.split == first for label in _of_entry(entry, several)}
    for entry, label in ((one, label) for one in entries for label in _of_entry(one, several)):
        if label not in known:
            yield _unknown(entry, label, known)
    for name, table in tables.items():
        counts = _balance(entries, name, several)
        if not counts:
            continue
        for label in sorted(known - set(counts)):
            message = Message("no row of {name} has the label {label!r}", name=name, label=label)
            yield Problem("missing_class", table.name, message, "warning", "", name)
        for label, other in alike(counts):
            message = Message(
                "{name}: {label!r} ({value} rows) looks like {other!r} ({a}); are they one label?",
                name=name,
                label=label,
                value=counts[label],
                other=other,
                a=counts[other],
            )
            yield Problem("similar_labels", table.name, message, "warning", "", name)
        most = max(counts.values())
        for label, count in sorted(counts.items()):
            if count * 10 < most:
                message = Message(
                    "{name}: {label!r} has {count} rows, the largest label {most}",
                    name=name,
                    label=label,
                    count=count,
                    most=most,
                )
                yield Problem("imbalance", table.name, message, "warning", "", name)


def _unknown(entry: Entry, label: str, known: Collection[str]) -> Problem:
    shown = ", ".join(sorted(known)[:10]) + (" ..." if len(known) > 10 else "")
    near = nearest(label, known)
    meant = Message("; did you mean {near!r}?", near=near) if near else ""
    form = "the label {answer!r} is not one of {shown}{meant}"
    return entry.problem("unknown_label", Message(form, answer=label, shown=shown, meant=meant))


def _balance(entries: Sequence[Entry], split: str, several: bool) -> dict[str, int]:
    counts = Counter(label for entry in entries if entry.split == split for label in _of_entry(entry, several))
    return {label: counts[label] for label in sorted(counts)}


def _tokens(
    tables: Mapping[str, Table],
    entries: Sequence[Entry],
    task: Task | None,
    problems: list[Problem],
    tokenize: Callable[[str], Sequence[int]],
    context: int | None,
    lead: int,
) -> dict[str, dict[str, float]]:
    some = [one for words in task.label_words.values() for one in words] if task and not task.head else []
    words = max((len(tokenize(one)) for one in some), default=0)
    lead += _slots(task, tokenize)
    lengths: dict[str, list[int]] = {name: [] for name in tables}
    for entry in entries:
        try:
            text = _text(task, entry.row.fields) if task else entry.input
        except TemplateError as error:
            problems.append(entry.problem("template", error.problem))
            continue
        generates = task is not None and task.kind == "generation"
        answer = len(tokenize(entry.answer.partition("\n")[0])) + 1 if generates else words
        length = lead + len(tokenize(text)) + answer
        lengths[entry.split].append(length)
        if context is not None and length > context:
            problems.append(
                entry.problem(
                    "too_long",
                    Message("{length:,} tokens; the model reads {context:,}", length=length, context=context),
                )
            )
    return {name: _figures(values) for name, values in lengths.items() if values}


def _kept_whole(tables: Mapping[str, Table], task: Task | None) -> Iterator[Problem]:
    """One warning a split for rows in which nothing gives way to the guidance."""
    if task is None or not task.guidance_replaces:
        return
    for name, table in tables.items():
        rows = [row for row in table.rows if of_row(task, row.fields)]
        same = sum(not replaced(task, row.fields, of_row(task, row.fields))[1] for row in rows)
        if same:
            message = Message(
                "{name}: in {same} of {n} rows nothing gives way to the guidance", name=name, same=same, n=len(rows)
            )
            yield Problem("not_replaced", table.name, message, "warning", "", name)


def _text(task: Task, fields: Mapping[str, object]) -> str:
    """A row's text with the guidance that it has in itself; for its length."""
    guidance = of_row(task, fields)
    fields, _ = replaced(task, fields, guidance)
    return front_of(task, guidance) + parsed(task.template).render(fields, guidance)


def _slots(task: Task | None, tokenize: Callable[[str], Sequence[int]]) -> int:
    """How many soft slots a row has."""
    soft = parsed(task.template).soft if task else ()
    words = ((task.guidance if one.guidance and task else one.words) for one in soft)
    return sum(len(tokenize(text)) if one.count is None else one.count for one, text in zip(soft, words, strict=True))


def _figures(values: list[int]) -> dict[str, float]:
    values = sorted(values)
    at = min(len(values) - 1, -(-95 * len(values) // 100) - 1)
    return {"min": values[0], "median": statistics.median(values), "p95": values[at], "max": values[-1]}


def _counts(tables: Mapping[str, Table], problems: Sequence[Problem]) -> dict[str, dict[str, int]]:
    result = {}
    for name, table in tables.items():
        mine = [problem for problem in problems if problem.split == name and problem.severity == "error"]
        bad = len({problem.row_id for problem in mine if problem.row_id})
        lost = sum(problem.kind == "unreadable" for problem in mine)
        total = len(table.rows) + lost
        result[name] = {"rows": total, "kept": total - bad - lost, "dropped": bad + lost, "unreadable": lost}
    return result


def _leaks(tables: Mapping[str, Table], task: Task | None) -> Iterator[Problem]:
    """A warning for each column that the model reads although it says the label again."""
    for name, table in tables.items():
        for column in table.layout.leaks:
            if column in _inputs(table, task):
                message = Message(
                    "{name}: the column {column!r} says the label again, so that the model can read it off",
                    name=name,
                    column=column,
                )
                yield Problem("leak", table.name, message, "warning", "", name)


def _unused(table: Table, task: Task | None) -> str:
    """The columns that nothing reads, for people; "" where there are none."""
    used = {*_inputs(table, task), task.target if task else table.layout.target}
    names = [name for name in table.columns if name not in used]
    parts = [
        Message("{name} (it says the label again)", name=name) if name in table.layout.leaks else name for name in names
    ]
    return Message("not used: {names}", names=", ".join(parts)) if parts else ""


def _labels_a_row(table: Table, target: str) -> str:
    """How many rows have how many labels: ``labels a row: 0 in 3 rows, 1 in 20, 2 in 5``."""
    counts = Counter(len(target_texts(row, target)) for row in table.rows)
    shown = [
        f"{number} in {count:,}{' rows' * (place == 0)}" for place, (number, count) in enumerate(sorted(counts.items()))
    ]
    return Message("labels a row: {names}", names=", ".join(shown))


def _notes(tables: Mapping[str, Table], task: Task | None, several: bool) -> Iterator[str]:
    for name, table in tables.items():
        cells = [str(row.fields.get(one) or "") for row in table.rows[:500] for one in table.layout.inputs]
        share = cjk_share(cells)
        parts: list[str] = [Message("{name} is {layout}", name=name, layout=table.layout.description)]
        if table.encoding not in ("utf-8", "memory", "binary"):
            parts.append(Message("read as {encoding}", encoding=table.encoding))
        if _unused(table, task):
            parts.append(_unused(table, task))
        if several:
            parts.append(_labels_a_row(table, task.target if task else table.layout.target))
        if share > 0.05:
            parts.append(Message("mostly Chinese, Japanese or Korean") if share > 0.5 else Message("mixed scripts"))
        yield Message("{parts}", parts=parts)
