"""Words with a tag each: named entities, semantic roles, parts of speech.

In a table both stand as text, words and tags with a space between: ``EU rejects the call``, ``B-org O O O``. So a row
is rendered, cut, compared and shown like any other; lists of words and tags are brought to this form when they are
read. Spans are written as BIO (Ramshaw & Marcus 1995, the IOB2 form): B-TYPE begins one, I-TYPE goes on with it, O is
outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from foreword.data.quality.unicode import is_cjk
from foreword.data.row import Problem, Raw, Row, label_text, what_it_is
from foreword.messages import Message

Severity = Literal["error", "warning"]
WORDS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "pos_tags", "chunk_tags", "tags_text")
OUTSIDE = "O"
# What parts words; a no-break space stands inside one.
_GAP = re.compile(r"[ \t\r\n]+")
_BIO = re.compile(r"[BI]-\S+\Z")


def words_of(text: object) -> list[str]:
    """The words (or tags) of a cell: a text with spaces between, or a list."""
    return [word for word in _GAP.split(as_text(text)) if word]


def as_text(value: object) -> str:
    """A cell's words as one text with a space between; a space inside a word becomes a no-break space.

    Raises:
        ValueError: an item of a list is empty or no text.
    """
    if not isinstance(value, list | tuple):
        return label_text(value)
    words = []
    for place, item in enumerate(value, 1):
        word = _GAP.sub("\u00a0", label_text(item))
        if what_it_is(item):
            raise ValueError(Message("word {value} is not a text", value=place))
        if not word:
            raise ValueError(Message("word {value} is empty", value=place))
        words.append(word)
    return " ".join(words)


def find_columns(columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns of words and of tags, by their names; the tags' is "" where there is none. None: no words."""
    lower = {name.lower(): name for name in reversed(columns)}
    words = next((lower[name] for name in WORDS if name in lower), None)
    return None if words is None else (words, next((lower[name] for name in TAGS if name in lower), ""))


def join_lists(raw: Raw, columns: Sequence[str], file: str) -> Raw:
    """The same rows with the lists in ``columns`` as text; a row whose list cannot be one is a problem."""
    result = Raw(raw.columns, [], list(raw.problems), raw.description)
    for fields, line in raw.records:
        try:
            joined = {name: as_text(fields[name]) for name in columns if isinstance(fields.get(name), list | tuple)}
        except ValueError as error:
            result.problems.append(Problem("unreadable", f"{file}:{line}", error.args[0]))
            continue
        result.records.append(({**fields, **joined}, line))
    return result


def is_bio(tags: Iterable[str]) -> bool:
    """Whether tags name spans: nothing but O, B-TYPE and I-TYPE, and one of the latter at least."""
    found = set(tags) - {OUTSIDE}
    return bool(found) and all(map(_BIO.match, found))


def tag_set(rows: Iterable[Row], target: str) -> list[str]:
    """Every tag that a model must be able to give: those in the rows, and I-TYPE for each B-TYPE; O comes first."""
    found = {tag for row in rows for tag in words_of(row.fields.get(target))}
    if is_bio(found):
        types = sorted({tag[2:] for tag in found if tag != OUTSIDE})
        return [OUTSIDE, *(f"{mark}-{kind}" for kind in types for mark in "BI")]
    return sorted(found, key=lambda tag: (tag != OUTSIDE, tag))


def in_text(words: Sequence[str]) -> list[str]:
    """The words with what parts them in a text: a space in front, but not between Chinese or Japanese ones."""
    shown = []
    for place, word in enumerate(words):
        glued = place == 0 or (is_cjk(word) and is_cjk(words[place - 1][-1:]))
        shown.append(word if glued else f" {word}")
    return shown


def problems_of(
    row: Row, words: str, target: str, known: Iterable[str], bio: bool
) -> Iterator[tuple[str, str, Severity]]:
    """What is wrong with a row's tags: (kind, message, severity).

    An I-TYPE that goes on with nothing, and another number of tags than of words, are errors. A tag outside ``known``
    can never be given; it counts as missed, and the row stays.
    """
    said, given = words_of(row.fields.get(words)), words_of(row.fields.get(target))
    if len(said) != len(given):
        yield "bad_tags", Message("{n} words and {a} tags", n=len(said), a=len(given)), "error"
        return
    allowed, before = frozenset(known), OUTSIDE
    for place, (word, tag) in enumerate(zip(said, given, strict=True), 1):
        if bio and not (tag == OUTSIDE or _BIO.match(tag)):
            yield (
                "bad_tags",
                Message(
                    "word {value} ({word!r}): the tag {tag!r} is not O, B-TYPE or I-TYPE",
                    value=place,
                    word=word,
                    tag=tag,
                ),
                "error",
            )
        elif bio and tag.startswith("I-") and before[2:] != tag[2:]:
            yield (
                "bad_tags",
                Message(
                    "word {value} ({word!r}): {tag} goes on with no span; {before}",
                    value=place,
                    word=word,
                    tag=tag,
                    before=_before(before),
                ),
                "error",
            )
        elif tag not in allowed:
            yield (
                "unknown_tag",
                Message(
                    "word {value} ({word!r}): the tag {tag!r} is not among those learned",
                    value=place,
                    word=word,
                    tag=tag,
                ),
                "warning",
            )
        before = tag


def _before(tag: str) -> str:
    return Message("before it stands {tag}", tag=tag) if tag != OUTSIDE else Message("a span begins with B-")
