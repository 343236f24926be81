"""Labels that are spelled in several ways: made one where people mean one, and named where they look alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from foreword.data.quality.unicode import normalise
from foreword.data.row import Row, is_missing, label_text

_RARE = 10
"""A label that looks like another counts as a slip when the other has at least so many times its rows."""


def plain_label(label: str) -> str:
    """A label's plain spelling: true and false in lower case, and whole numbers without a fraction."""
    low = label.casefold()
    if low in ("true", "false"):
        return low
    try:
        number = float(label) if low[-1:].isdigit() and "_" not in label else None
    except ValueError:
        return label
    same = number is not None and number.is_integer() and abs(number) < 1e15 and not label.lstrip("-").startswith("00")
    return str(int(number)) if same and "." in label and number is not None else label


def unified(rows: Sequence[Row], target: str) -> tuple[Row, ...]:
    """The rows with labels in their plain spelling, where the column holds nothing but booleans, or whole numbers.

    A CSV's ``True`` and JSON's ``true`` are then one label, and so are ``1.0`` and ``1``. Ids stay.
    """
    texts = {label_text(row.fields.get(target)) for row in rows} - {""}
    booleans = bool(texts) and all(text.casefold() in ("true", "false") for text in texts)
    numbers = bool(texts) and all(plain_label(text).lstrip("-").isdigit() for text in texts)
    if not (booleans or numbers) or all(plain_label(text) == text for text in texts):
        return tuple(rows)

    def plain(row: Row) -> Row:
        value = row.fields.get(target)
        if is_missing(value) or not label_text(value):
            return row
        return replace(row, fields={**row.fields, target: plain_label(label_text(value))})

    return tuple(map(plain, rows))


def nearest(label: str, known: Iterable[str]) -> str:
    """The label among ``known`` that this one is most likely meant to be; "" where none is near."""
    names = list(known)
    same = [name for name in names if normalise(name) == normalise(label)]
    if same:
        return same[0]
    close = difflib.get_close_matches(label.casefold(), [name.casefold() for name in names], 1, 0.75)
    return next((name for name in names if close and name.casefold() == close[0]), "")


def alike(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Pairs (rarer label, other label) that differ in case, width or punctuation only, or by a slip of the pen."""
    names = sorted(counts, key=lambda name: (counts[name], name))
    if len(names) > 200:
        return
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            plain, theirs = normalise(name), normalise(other)
            letters = plain.isalpha() and theirs.isalpha() and min(len(plain), len(theirs)) >= 5
            slip = letters and counts[other] >= _RARE * counts[name] and _one_slip(plain, theirs)
            if plain == theirs or slip:
                yield name, other
                break


def _one_slip(first: str, second: str) -> bool:
    """Whether two words differ by one letter left out, put in, exchanged, or changed places."""
    if abs(len(first) - len(second)) > 1:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    one, two = first[start:], second[start:]
    return one[1:] == two or one == two[1:] or one[1:] == two[1:] or (one[:2] == two[1::-1] and one[2:] == two[2:])
