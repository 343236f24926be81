"""Which columns are the input and which is the target: recognised from their names, or as the user says."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foreword.data.row import Row, is_missing, label_text, references, what_it_is
from foreword.data.task.label_sets import are_label_lists
from foreword.data.task.tagging import TAGS, WORDS, find_columns
from foreword.errors import DataError
from foreword.messages import Message

Kind = Literal["classification", "multilabel", "generation", "tagging"]

_LABELS = ("label", "labels", "category", "class", "target", "sentiment", "intent", "topic", "标签", "类别")
_TEXTS = ("text", "sentence", "review", "content", "tweet", "utterance", "query", "document", "文本", "内容", "评论")
_GROUPS = (
    ("premise", "choice1", "choice2", "question"),
    ("word", "sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("passage", "question"),
    ("question", "passage"),
    ("title", "text"),
    ("title", "content"),
)
# What stands on both sides of a text to be written.
GAPS = (("before", "after"), ("prefix", "suffix"))
# (required inputs, optional inputs, target), the more telling ones first
_GENERATION: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("instruction",), ("input",), "output"),
    (("instruction",), ("context",), "response"),
    *((pair, (), target) for pair in GAPS for target in ("completion", "middle")),
    (("prompt",), (), "completion"),
    (("prompt",), (), "response"),
    (("prompt",), (), "chosen"),
    (("source",), (), "reply"),
    (("source",), (), "target"),
    (("context", "question"), (), "answer"),
    (("passage", "question"), (), "answer"),
    (("question",), (), "answer"),
    (("document",), (), "summary"),
    (("article",), (), "summary"),
    (("article",), (), "highlights"),
    (("dialogue",), (), "summary"),
    (("text",), (), "summary"),
    (("mr",), (), "ref"),
    (("mr",), (), "refs"),
    (("mr",), (), "output"),
    (("en",), (), "zh"),
    (("zh",), (), "en"),
    (("input",), (), "output"),
    (("input",), (), "target"),
    (("query",), (), "response"),
)
_NOT_INPUTS = ("id", "idx", "index", "guid", "uid", "version", "split", "source_file", "label_desc", "keywords")


_LEAST_ROWS = 8
"""Below, a column may go with the label by chance."""


@dataclass(frozen=True)
class Layout:
    """What the columns mean.

    ``inputs`` are the fields the model sees (those in ``optional`` may be empty), ``target`` is the field it must give
    ("" for rows without one), ``description`` is shown to the user. ``turns`` is the field with a conversation's turns,
    ``plain`` is said of texts that are learned as they stand, ``leaks`` are columns that say the label again and are
    therefore not taken as input.
    """

    kind: Kind
    inputs: tuple[str, ...]
    target: str
    description: str
    optional: tuple[str, ...] = ()
    turns: str = ""
    plain: bool = False
    leaks: tuple[str, ...] = ()

    def without(self, column: str) -> Layout:
        """The same with one column fewer among the inputs."""
        if column not in self.inputs:
            return self
        inputs = tuple(name for name in self.inputs if name != column)
        return replace(self, inputs=inputs, optional=tuple(name for name in self.optional if name != column))


def known_names() -> frozenset[str]:
    """Column names (lower case) that tell a header from a first row."""
    names = {*_LABELS, *_TEXTS, *WORDS, *TAGS, *(name for group in _GROUPS for name in group)}
    for required, optional, target in _GENERATION:
        names |= {*required, *optional, target}
    return frozenset(names)


def recognise(
    columns: Sequence[str],
    rows: Sequence[Row],
    inputs: Sequence[str] = (),
    target: str | None = None,
    *,
    labelled: bool = True,
    kind: Kind | None = None,
) -> Layout:
    """The layout of a table.

    Args:
        inputs: the columns of the input, as the user says; empty: recognised by name.
        target: the column of the label or the completion, as the user says.
        labelled: False for data to predict on, where a target may be absent.
        kind: what the task is, as the user says, whatever the columns are called.

    Raises:
        DataError: a column named by the user is not there, or nothing is recognised.
    """
    for name in (*inputs, *((target,) if target else ())):
        _require(name, columns)
    if target in inputs:
        hint = "choose another --input or --target"
        raise DataError("a column is both input and target", received=target, hint=hint)
    layout = _tagged(columns, tuple(inputs), target) if kind in (None, "tagging") else None
    if layout is None:
        layout = _by_target(columns, rows, tuple(inputs), target) if target else _by_name(columns, rows, tuple(inputs))
    if layout is not None and kind is None and layout.kind != "tagging" and _label_lists(layout, rows):
        kind = "multilabel"
    if layout is not None:
        return _of_kind(_without_leaks(layout, columns, rows, tuple(inputs)), kind, columns, rows, tuple(inputs))
    plain = _plain_column(columns, rows, tuple(inputs))
    if plain and labelled and not target and kind in (None, "generation"):
        return Layout("generation", (plain,), "", f"{plain} (plain text, learned as it stands)", plain=True)
    if not labelled:
        chosen = tuple(inputs) or _text_columns(columns, "")
        return Layout("generation", chosen, "", f"{' + '.join(chosen)} (no target)")
    listed = ", ".join(map(repr, columns))
    hint = "name them: --input TEXT_COLUMN --target LABEL_COLUMN (the first line of a CSV file holds the names)"
    if any("，" in name for name in columns):
        hint = "the first line has full-width commas (，); columns are divided by commas, semicolons, tabs or bars"
    if len(columns) == 2 and not any(name.startswith("column_") for name in columns):
        hint += "; if the first line is a pair and no header, call the file .txt"
    expected = "text,label or prompt,completion or instruction,input,output or messages"
    raise DataError("the columns are not recognised", expected=expected, received=listed, hint=hint)


def _plain_column(columns: Sequence[str], rows: Sequence[Row], inputs: tuple[str, ...]) -> str:
    """The one column of texts of rows that have no other beside ids; "" where there is none."""
    texts = _text_columns(columns, "")
    if len(texts) != 1 or inputs not in ((), texts) or "，" in texts[0]:
        return ""
    cells = [row.fields.get(texts[0]) for row in rows]
    return texts[0] if all(isinstance(cell, str) for cell in cells if not is_missing(cell)) else ""


def _label_lists(layout: Layout, rows: Sequence[Row]) -> bool:
    """Whether the target holds lists of labels; of a text to write, lists are references, unless it is called so."""
    return layout.kind == "classification" and are_label_lists(rows, layout.target)


def _of_kind(
    layout: Layout, kind: Kind | None, columns: Sequence[str], rows: Sequence[Row], inputs: tuple[str, ...]
) -> Layout:
    """The layout as another kind of task, where the user says so."""
    if kind is None or kind == layout.kind:
        return layout
    if "tagging" in (kind, layout.kind):
        hint = "tagging has a column of words and one of tags: --input tokens --target tags"
        raise DataError(
            Message("the columns are not those of a {kind}", kind=kind), received=", ".join(columns), hint=hint
        )
    chosen = inputs or (
        _label_inputs(columns, layout.target) if kind in ("classification", "multilabel") else layout.inputs
    )
    optional = tuple(name for name in layout.optional if name in chosen)
    return _without_leaks(_layout(kind, chosen, layout.target, optional), columns, rows, inputs)


def _without_leaks(layout: Layout, columns: Sequence[str], rows: Sequence[Row], inputs: tuple[str, ...]) -> Layout:
    """The layout without inputs that say the label again; those that the user names stay, and are named as leaks."""
    if layout.kind != "classification" or len(rows) < _LEAST_ROWS:
        return layout
    leaks = tuple(name for name in layout.inputs if _says_label(name, layout.target, rows))
    rest = tuple(name for name in layout.inputs if name not in leaks)
    if not leaks or inputs or not rest:
        return replace(layout, leaks=leaks)
    return replace(_layout(layout.kind, rest, layout.target), leaks=leaks)


def _says_label(name: str, target: str, rows: Sequence[Row]) -> bool:
    """Whether a column of few short values has one label for each of them."""
    if not _few_values(name, rows):
        return False
    labels: dict[str, str] = {}
    for row in rows:
        value, label = label_text(row.fields.get(name)), label_text(row.fields.get(target))
        if value and label and labels.setdefault(value, label) != label:
            return False
    return len(set(labels.values())) > 1


def _require(name: str, columns: Sequence[str]) -> None:
    if name not in columns:
        close = difflib.get_close_matches(name, columns, 1)
        hint = Message("did you mean {value!r}?", value=close[0]) if close else None
        raise DataError(
            Message("there is no column {name!r}", name=name), expected=", ".join(columns), received=name, hint=hint
        )


def _lower(columns: Sequence[str]) -> dict[str, str]:
    """Lower-case name -> the name as written; the first wins."""
    result: dict[str, str] = {}
    for name in columns:
        result.setdefault(name.lower(), name)
    return result


def _tagged(columns: Sequence[str], inputs: tuple[str, ...], target: str | None) -> Layout | None:
    """Words and tags, where they are called so and the user names no others."""
    words, tags = find_columns(columns) or ("", "")
    tags = target if target is not None and target.lower() in TAGS else tags
    if not words or not tags or (target or tags) != tags or (inputs or (words,)) != (words,):
        return None
    return _layout("tagging", (words,), tags)


def _by_name(columns: Sequence[str], rows: Sequence[Row], inputs: tuple[str, ...]) -> Layout | None:
    names = _lower(columns)
    if not inputs:
        for required, optional, target in _GENERATION:
            if target in names and all(name in names for name in required):
                if target in _LABELS and _few_values(names[target], rows):
                    continue  # input,target with a handful of short values is classification
                if _are_booleans(names[target], rows):
                    return _layout("classification", _label_inputs(columns, names[target]), names[target])
                extra = tuple(names[name] for name in optional if name in names)
                chosen = tuple(names[name] for name in required) + extra
                return _layout("generation", chosen, names[target], extra)
    for label in _LABELS:
        if label in names and names[label] not in inputs:
            chosen = inputs or _label_inputs(columns, names[label])
            if chosen:
                return _layout("classification", chosen, names[label])
    for _, _, target in _GENERATION if inputs else ():
        if target in names and names[target] not in inputs:
            return _layout("generation", inputs, names[target])
    return None


def _by_target(columns: Sequence[str], rows: Sequence[Row], inputs: tuple[str, ...], target: str) -> Layout | None:
    is_label = (
        target.lower() in _LABELS
        or _are_booleans(target, rows)
        or (target.lower() not in {name for _, _, name in _GENERATION} and _few_values(target, rows))
    )
    kind: Kind = "classification" if is_label else "generation"
    chosen = inputs
    if not chosen and kind == "generation":
        names = _lower(columns)
        known = next((group for *group, name in _GENERATION if name == target.lower() and group[0][0] in names), None)
        if known and all(name in names for name in known[0]):
            extra = tuple(names[name] for name in known[1] if name in names)
            return _layout(kind, tuple(names[name] for name in known[0]) + extra, target, extra)
    chosen = chosen or _label_inputs(columns, target)
    return _layout(kind, chosen, target) if chosen else None


def _layout(kind: Kind, inputs: tuple[str, ...], target: str, optional: tuple[str, ...] = ()) -> Layout:
    return Layout(kind, inputs, target, f"{' + '.join(inputs)} -> {target} ({kind})", optional)


def _label_inputs(columns: Sequence[str], target: str) -> tuple[str, ...]:
    """The inputs beside a label: a known group, one known text column, or every column that is not an id."""
    names = {low: name for low, name in _lower(columns).items() if name != target}
    for group in _GROUPS:
        if all(name in names for name in group):
            return tuple(names[name] for name in group)
    for text in _TEXTS:
        if text in names:
            return (names[text],)
    return _text_columns(columns, target)


def _text_columns(columns: Sequence[str], target: str) -> tuple[str, ...]:
    return tuple(
        name
        for name in columns
        if name != target and name.lower() not in _NOT_INPUTS and not name.startswith("column_") and name.lower()
    )


def _are_booleans(column: str, rows: Sequence[Row]) -> bool:
    """Whether every value that a column has is true or false."""
    cells = [row.fields.get(column) for row in rows if not is_missing(row.fields.get(column))]
    return bool(cells) and all(isinstance(cell, bool) for cell in cells)


def _few_values(column: str, rows: Sequence[Row]) -> bool:
    """Whether a column holds classes: few different short values for the number of rows."""
    cells = [row.fields.get(column) for row in rows]
    if any(what_it_is(cell) for cell in cells):
        return False
    values = {label_text(cell) for cell in cells if not is_missing(cell)}
    short = all(len(value) <= 40 and len(value.split()) <= 4 for value in values)
    return bool(values) and short and len(values) <= max(2, min(200, len(rows) // 4))


def target_texts(row: Row, target: str) -> tuple[str, ...]:
    """The reference texts of a row's target: none, one, or several when the cell is a list."""
    return references(row.fields.get(target))
