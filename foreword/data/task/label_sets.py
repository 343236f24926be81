"""Rows with several labels, one, or none: how a cell holds them, and how they are written as one text.

In a table such a cell is a list of texts, sorted, each once; files may have it as a list, as JSON text, or as labels
with ``|``, ``;`` or a comma between. As an answer it is one text, ``art; sport``, and ``(none)`` for no label.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from foreword.data.row import Row, is_missing, label_text, references, what_it_is

NO_LABEL = "(none)"
"""What is written where no label fits."""
SEPARATORS = ("|", ";", "；", ",", "，", "、")
"""What may stand between labels in a file; of several in one column the first decides."""
METRIC_ALIASES = {"micro_f1": "labels_micro_f1", "macro_f1": "labels_macro_f1", "accuracy": "labels_exact"}
"""What metrics of a classification with one label a row are called here."""
_ABSENT = {"en": ("none", "no label", "nothing of these"), "zh": ("无", "都不是", "没有标签")}


def joined(labels: Iterable[str]) -> str:
    """Labels as one text, in the order given; JSON where a label has the separator in it."""
    texts = list(labels)
    if not texts:
        return NO_LABEL
    plain = not any(";" in text or text.startswith("[") or text == NO_LABEL for text in texts)
    return "; ".join(texts) if plain else json.dumps(texts, ensure_ascii=False)


def labels_in(text: str) -> tuple[str, ...]:
    """The labels of a text that :func:`joined` wrote."""
    listed = _json_list(text)
    if listed is not None:
        return tuple(listed)
    return () if text == NO_LABEL else tuple(part.strip() for part in text.split(";") if part.strip())


def labels_of_cell(value: object, separator: str = "") -> tuple[str, ...] | None:
    """The labels of a row's cell, sorted, each once; None where the cell is missing or holds something else.

    Args:
        separator: what stands between labels in a text; "": the text is one label.
    """
    if isinstance(value, str):
        listed = _json_list(value)
        value = listed if listed is not None else _parts(value, separator)
    if isinstance(value, list | tuple | set | frozenset):
        if any(what_it_is(item) for item in value):
            return None
        return tuple(sorted({label_text(item) for item in value if label_text(item)}))
    return None if is_missing(value) or what_it_is(value) else (label_text(value),)


def with_lists(rows: Sequence[Row], target: str) -> tuple[Row, ...]:
    """The rows with their labels as lists; cells that hold none of the known forms stay. Ids stay."""
    separator = separator_of(row.fields.get(target) for row in rows)

    def listed(row: Row) -> Row:
        labels = labels_of_cell(row.fields.get(target), separator)
        return row if labels is None else replace(row, fields={**row.fields, target: list(labels)})

    return tuple(map(listed, rows))


def labels_in_rows(rows: Iterable[Row], target: str, several: bool) -> Iterator[str]:
    """Every label of every row, where a row may have several; else the first of each."""
    most = None if several else 1
    return (text for row in rows for text in references(row.fields.get(target))[:most])


def separator_of(cells: Iterable[object]) -> str:
    """What stands between the labels of a column's texts; "" where there is nothing of the kind."""
    counts = Counter(mark for cell in cells if isinstance(cell, str) for mark in SEPARATORS if mark in cell)
    return next((mark for mark in SEPARATORS if counts[mark]), "")


def are_label_lists(rows: Sequence[Row], target: str) -> bool:
    """Whether a column holds lists of labels: short texts that come again from row to row and not within one, and not
    one in each row."""
    cells = [row.fields.get(target) for row in rows if row.fields.get(target) is not None]
    if not cells or not all(isinstance(cell, list | tuple) for cell in cells):
        return False
    lists = [list(cell) for cell in cells if isinstance(cell, list | tuple)]
    if all(len(items) == 1 for items in lists) or any(what_it_is(item) for items in lists for item in items):
        return False
    texts = [[label_text(item) for item in items] for items in lists]
    every = {text for items in texts for text in items}
    short = all(len(text) <= 60 and len(text.split()) <= 6 for text in every)
    total = sum(map(len, texts))
    return short and all(len(set(items)) == len(items) for items in texts) and 1 < len(every) <= max(2, total - 1)


def absent_words(words: Iterable[Sequence[str]], chinese: bool) -> str:
    """The words that say that no label fits: none that a label has already."""
    taken = {text.strip().casefold() for some in words for text in some}
    return next((text for text in _ABSENT["zh" if chinese else "en"] if text not in taken), NO_LABEL)


def guidance_of(words: Sequence[str], absent: str, chinese: bool) -> str:
    """The instruction for labels that a row may have several of."""
    if chinese:
        return f"判断文本属于哪些标签，可以有多个。标签有：{'、'.join(words)}。都不属于时回答：{absent}。\n\n"
    return f"Decide which labels fit the text, one or several: {', '.join(words)}. If none fits, say {absent}.\n\n"


def _parts(text: str, separator: str) -> list[str]:
    if text.strip() in ("", NO_LABEL):
        return []
    return text.split(separator) if separator else [text]


def _json_list(text: str) -> list[str] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except ValueError:
        return None
    return listed if isinstance(listed, list) and all(isinstance(item, str | int) for item in listed) else None
