"""Semantic roles to words and tags: one row is one predicate, which stands between two marks among its words.

``tokens``, ``predicate`` (its place, from 0) and ``args`` become words with a tag each. An argument is
``[place, role]`` (its head word) or ``[first, last, role]`` (a span, both ends included); its tags are B-ROLE and
I-ROLE. The predicate is marked in place, ``the board « approved » the plan``: a sentence with two predicates makes two
rows that differ in the marks alone, and an encoder sees at every word which of them is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from foreword.data.row import Problem, Raw, is_missing
from foreword.data.task.tagging import OUTSIDE, as_text, words_of
from foreword.messages import Message

_COLUMNS = ("tokens", "predicate")
MARKS = ("\u00ab", "\u00bb")


def has_roles(columns: tuple[str, ...]) -> bool:
    """Whether the rows are predicates with their arguments."""
    return all(name in columns for name in _COLUMNS) and "tags" not in columns


def expand_roles(raw: Raw, file: str) -> Raw:
    """The same rows with ``tokens`` (the predicate marked) and ``tags`` in place of predicate and arguments.

    A place outside the sentence, or two roles for one word, is a problem, and the row is left out; an argument without
    a role is left out with a warning. Without a column ``args`` the rows have no tags.
    """
    rest = tuple(name for name in raw.columns if name not in (*_COLUMNS, "args", "tags"))
    tags = ("tags",) if "args" in raw.columns else ()
    result = Raw(("tokens", *tags, *rest), [], list(raw.problems))
    marked = f"tokens with the predicate between {' '.join(MARKS)}"
    result.description = f"{marked} -> roles (tagging)" if tags else marked
    nameless = 0
    for fields, line in raw.records:
        try:
            made, without = _row(fields, bool(tags))
        except ValueError as error:
            result.problems.append(Problem("unreadable", f"{file}:{line}", error.args[0]))
            continue
        nameless += without
        if without == nameless and without:
            first = f"{file}:{line}"
        result.records.append(({**made, **{name: fields[name] for name in rest if name in fields}}, line))
    if nameless:
        message = Message(
            "{nameless} arguments have no role and are left out; this row has the first", nameless=nameless
        )
        result.problems.append(Problem("nameless_role", first, message, "warning"))
    return result


def _row(fields: Mapping[str, object], labelled: bool) -> tuple[dict[str, object], int]:
    words = words_of(as_text(fields.get("tokens")))
    place = _place(fields.get("predicate"), len(words), "the predicate")
    before, after = MARKS
    made: dict[str, object] = {"tokens": " ".join([*words[:place], before, words[place], after, *words[place + 1 :]])}
    if not labelled:
        return made, 0
    tags, without = [OUTSIDE] * len(words), 0
    for first, last, role in _arguments(fields.get("args"), len(words)):
        if not role:
            without += 1
            continue
        if any(tag != OUTSIDE for tag in tags[first : last + 1]):
            raise ValueError(
                Message("two arguments have the word {value!r}; a word can have one role", value=words[first])
            )
        tags[first : last + 1] = [f"B-{role}", *[f"I-{role}"] * (last - first)]
    made["tags"] = " ".join([*tags[:place], OUTSIDE, tags[place], OUTSIDE, *tags[place + 1 :]])
    return made, without


def _arguments(value: object, count: int) -> Iterator[tuple[int, int, str]]:
    if not isinstance(value, list | tuple):
        raise ValueError("args is not a list of [place, role]")
    for one in value:
        if not isinstance(one, list | tuple) or len(one) not in (2, 3):
            raise ValueError("an argument is not [place, role] or [first, last, role]")
        first, last = _place(one[0], count, "an argument"), _place(one[-2], count, "an argument")
        if last < first:
            raise ValueError(Message("an argument ends at {last}, before it begins at {first}", last=last, first=first))
        yield first, last, "" if is_missing(one[-1]) else "_".join(str(one[-1]).split())


def _place(value: object, count: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(
            Message(
                "{what} stands at {value!r}; the {count} words are counted from 0", what=what, value=value, count=count
            )
        )
    return value
