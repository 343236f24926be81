"""One call reads every format: the rows that can be used, and a list of those that cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from foreword.data.quality.label_names import unified
from foreword.data.readers.chat_messages import expand_conversations
from foreword.data.readers.open_source import Content, open_source
from foreword.data.readers.semantic_roles import expand_roles, has_roles
from foreword.data.row import Problem, Raw, make_rows, unusable, with_causes
from foreword.data.table import Table
from foreword.data.task.columns import Kind, recognise
from foreword.data.task.label_sets import with_lists
from foreword.data.task.tagging import find_columns, join_lists
from foreword.errors import DataError
from foreword.messages import Message

__all__ = ["Table", "read", "read_splits"]


def read(
    source: object,
    *,
    encoding: str | None = None,
    inputs: Sequence[str] = (),
    target: str | None = None,
    labelled: bool = True,
    kind: Kind | None = None,
) -> Table:
    """Read a data file (docs/data-formats.md lists the formats), a folder of such files, or data in memory.

    Args:
        source: a path, "-" for standard input, a pandas DataFrame, a Hugging Face Dataset, a list of dictionaries, or
            a list of texts.
        encoding: of the text; None: found out (UTF-8, UTF-16 and UTF-32 with a mark, GBK).
        inputs: columns of the input; empty: recognised.
        target: column of the label or completion; None: recognised.
        labelled: False when the rows need no target (data to predict on).
        kind: classification, multilabel, generation or tagging; None: recognised.

    Raises:
        DataError: the data cannot be read, have no rows or several splits, or their columns are not recognised. A
            single bad row is no error here: it is in ``Table.problems`` with its line.
        SettingsError: the encoding is unknown.

    >>> from foreword import read
    >>> table = read("reviews.csv")
    >>> len(table), table.columns, table.rows[0].fields["label"]
    (40, ('text', 'label'), 'bad')
    """
    tables = read_splits(source, encoding=encoding, inputs=inputs, target=target, labelled=labelled, kind=kind)
    if len(tables) > 1:
        raise DataError(
            "the data have several splits, and one is wanted here",
            where=str(source) if isinstance(source, str) else next(iter(tables.values())).name,
            received=", ".join(tables),
            hint='give one: the file or folder of that split, or data["test"] in Python',
        )
    return next(iter(tables.values()))


def read_splits(
    source: object,
    *,
    encoding: str | None = None,
    inputs: Sequence[str] = (),
    target: str | None = None,
    labelled: bool = True,
    kind: Kind | None = None,
) -> dict[str, Table]:
    """Every split of a source: train, dev and test where it has them, else the whole of it under the name ``""``.

    Arguments and errors as of :func:`read`.
    """
    named = (*inputs, *((target,) if target else ()))
    contents = open_source(source, encoding, named, labelled)
    return {name: _table(content, inputs, target, labelled, kind) for name, content in contents.items()}


def _table(content: Content, inputs: Sequence[str], target: str | None, labelled: bool, kind: Kind | None) -> Table:
    raws = [(_expanded(part.raw, part.file, inputs, target, labelled), part.file) for part in content.parts]
    columns = tuple(dict.fromkeys(name for raw, _ in raws for name in raw.columns))
    problems = tuple(problem for raw, _ in raws for problem in raw.problems)
    rows = make_rows((fields, line, file) for raw, file in raws for fields, line in raw.records)
    where = content.parts[0].file
    if not rows:
        _refuse_empty(problems, where, content.kind)
    with _with_place(where, problems):
        layout = recognise(columns, rows, inputs, target, labelled=labelled, kind=kind)
    first = raws[0][0]
    if first.description and not inputs and target is None:
        layout = replace(layout, description=first.description)
    if first.turns:
        layout = replace(layout, turns=first.turns)
    if layout.kind == "classification":
        rows = unified(rows, layout.target)
    if layout.kind == "multilabel" and layout.target:
        rows = with_lists(rows, layout.target)
    return Table(rows, columns, content.name, layout, problems, content.digest, content.encoding)


@contextmanager
def _with_place(where: str, problems: Sequence[Problem]) -> Iterator[None]:
    """Data errors with the file they are of, and the rows that could not be read as causes."""
    try:
        yield
    except DataError as error:
        placed = DataError(
            error.problem, where=where, expected=error.expected, received=error.received, hint=error.hint
        )
        raise with_causes(placed, problems) from error


def _expanded(raw: Raw, file: str, inputs: Sequence[str], target: str | None, labelled: bool) -> Raw:
    """One file's rows with conversations, semantic roles and lists of words as text."""
    if raw.unnamed and len(inputs) == 1:
        raw.columns = tuple(inputs)
        raw.records = [({inputs[0]: fields["text"]}, line) for fields, line in raw.records]
    _strip_names(raw, file)
    raw = expand_conversations(raw, file, inputs, target, labelled)
    if has_roles(raw.columns):
        raw = expand_roles(raw, file)
    tagged = find_columns(raw.columns)
    if tagged is not None:
        raw = join_lists(raw, tagged, file)
    _flatten(raw)
    _set_unusable_aside(raw, file)
    return raw


def _strip_names(raw: Raw, file: str) -> None:
    """Take the white space off column names. Raises DataError where two are then the same."""
    if all(name == name.strip() for name in raw.columns):
        return
    stripped = [name.strip() for name in raw.columns]
    if len(set(stripped)) < len(stripped):
        raise DataError("two columns have the same name", where=file, received=", ".join(map(repr, raw.columns)))
    raw.columns = tuple(stripped)
    raw.records = [({name.strip(): value for name, value in fields.items()}, line) for fields, line in raw.records]


def _flatten(raw: Raw) -> None:
    """Cells of a known form as columns or texts: translations by language, and answers as SQuAD has them."""
    if "translation" in raw.columns:
        _spread(raw, "translation")
    if "answers" in raw.columns and "answer" not in raw.columns:
        _take_texts(raw, "answers", "answer")


def _spread(raw: Raw, column: str) -> None:
    """A column of objects as a column for each of their keys."""
    opened = []
    for fields, line in raw.records:
        cell = fields.get(column)
        if not isinstance(cell, Mapping):
            return
        opened.append(({**{k: v for k, v in fields.items() if k != column}, **cell}, line))
    raw.records = opened
    raw.columns = tuple(dict.fromkeys(name for fields, _ in opened for name in fields))


def _take_texts(raw: Raw, column: str, new: str) -> None:
    """A column of objects with a list of texts under ``text`` as a column of these lists, each text once."""
    taken = []
    for fields, line in raw.records:
        cell = fields.get(column)
        texts = cell.get("text") if isinstance(cell, Mapping) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return
        rest = {name: value for name, value in fields.items() if name != column}
        taken.append(({**rest, new: list(dict.fromkeys(texts))}, line))
    raw.records = taken
    raw.columns = tuple(new if name == column else name for name in raw.columns)


def _set_unusable_aside(raw: Raw, file: str) -> None:
    good = []
    for fields, line in raw.records:
        why = unusable(fields)
        if why:
            raw.problems.append(Problem("unreadable", f"{file}:{line}", Message("the row holds {why}", why=why)))
        else:
            good.append((fields, line))
    raw.records = good
    raw.problems.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))


def _refuse_empty(problems: Sequence[Problem], where: str, kind: str) -> None:
    unreadable = [problem for problem in problems if problem.severity == "error"]
    if unreadable:
        first = unreadable[0]
        hint = "a .txt file is one dialogue pair a line, with a tab between" if kind == "txt" else "repair the file"
        error = DataError(
            Message("none of the {n} rows can be read", n=len(unreadable)),
            where=first.where,
            received=first.message,
            hint=hint,
        )
        raise with_causes(error, unreadable[1:])
    hint = "add rows below the header" if kind in ("csv", "tsv", "excel") else "give at least one row"
    raise DataError("there are no rows in the data", where=where, hint=hint)
