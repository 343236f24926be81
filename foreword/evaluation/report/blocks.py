"""The blocks a report is made of, and any JSON value as cells of a table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MAX_TEXT = 400


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``plain``, ``warning``, ``part`` (a smaller heading), or ``code`` and ``value``: not
    the program's words."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Items:
    """Sentences, one a line."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells as text, the first column naming the line; ``shades`` (0 to 1, or None) colours cells in HTML.

    ``words`` says which cells are our own words, which another language may say in its way: all,
    only the head, or of the head only the corner; ``own`` names columns whose cells are, too. ``folded``: HTML shows
    the table when it is asked for.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float | None]] | None = None
    words: Literal["all", "head", "corner"] = "head"
    own: Collection[int] = ()
    folded: bool = False

    def says(self, column: int, head: bool = False) -> bool:
        """Whether a column's cells, or its head, are our own words."""
        if head:
            return self.words != "corner" or not column
        return self.words == "all" or column in self.own


@dataclass(frozen=True)
class Chart:
    """A finished SVG element, for HTML alone: Markdown shows the table beside it. ``small``: several stand in a row."""

    svg: str
    small: bool = False


@dataclass(frozen=True)
class Words:
    """What a model is asked, by parts: (name, text), line breaks as they are."""

    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """One system's answer to a row: whether it is right (None: nobody can say), and the probability it was given."""

    text: str
    right: bool | None
    sure: float | None = None


@dataclass(frozen=True)
class ReadRow:
    """A row worth reading: ``why`` as in rows_to_read ("" where nothing is said)."""

    why: str
    input: str
    gold: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class ReadRows:
    """Rows to read, and what their reasons are called; ``systems`` are the names of the columns of answers."""

    systems: Sequence[str]
    rows: Sequence[ReadRow]
    reasons: Mapping[str, str]


Block = Text | Items | Table | Chart | Words | ReadRows


@dataclass(frozen=True)
class Section:
    """A heading and its blocks.

    Args:
        folded: HTML shows the heading alone until it is asked for.
        beside: on a wide page the blocks stand beside each other, two in a row.
    """

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Card:
    """The verdict at the top of a page.

    Args:
        answer: in three words; ``tone`` is its colour: ``good``, ``open``, ``keep`` or ``bad``.
        headline, lines: the sentences.
        figures: (name, value) of the systems that are compared, and ``figures_of`` the metric.
        bar: the drawn difference; "" for none.
        footnote: how the difference was tested.
    """

    answer: str
    tone: Literal["good", "open", "keep", "bad"]
    headline: str
    lines: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    figures_of: str = ""
    bar: str = ""
    footnote: str = ""


@dataclass(frozen=True)
class Page:
    """All that a report says, in reading order."""

    title: str
    subtitle: str
    card: Card | None
    sections: Sequence[Section]
    language: str = "en"


def short(value: object) -> str:
    """Any JSON value as a cell: floats with five digits, long texts cut with the number of characters left out."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} more characters)"


def records(found: Sequence[Mapping[str, Any]]) -> Table:
    """One line a record, one column a key."""
    head = list(dict.fromkeys(key for record in found for key in record))
    return Table(head, [[short(record.get(key)) for key in head] for record in found])


def settings(value: object) -> Iterator[Text | Table]:
    """A value as it is, or a dict as a table of keys and values, those of inner dicts with a dot between."""
    if isinstance(value, Mapping):
        if value:
            yield Table(["key", "value"], list(_flat(value)))
    elif value is not None:
        yield Text(short(value), "value")


def _flat(values: Mapping[Any, Any], front: str = "") -> Iterable[list[str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{front}{key}.")
        else:
            yield [f"{front}{key}", short(value)]
