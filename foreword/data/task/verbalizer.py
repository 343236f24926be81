"""The verbalizer of a task: its labels and the words of each, as they are given or as the rows have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from foreword.data.quality.label_names import nearest, plain_label
from foreword.data.row import label_text, with_causes
from foreword.data.table import Table
from foreword.data.task.label_sets import labels_in_rows
from foreword.errors import DataError, VerbalizerError
from foreword.messages import Message
from foreword.settings.values import FULL_WIDTH

MAX_LABELS = 200


def label_words(labels: str | Mapping[str, str] | Sequence[str] | None, table: Table) -> dict[str, tuple[str, ...]]:
    """Each label's words: one, or several where ``|`` stands between them in what was given."""
    if labels is None:
        found = labels_of(table)
        if found and all(label.lstrip("-").isdigit() for label in found):
            found.sort(key=int)
        return {label: (label,) for label in found}
    return _as_in_rows(_given(labels), table)


def _given(labels: str | Mapping[str, str] | Sequence[str]) -> dict[str, tuple[str, ...]]:
    if isinstance(labels, str):
        return _parse(labels)
    if isinstance(labels, Mapping):
        return {label_text(label): _several(str(words)) for label, words in labels.items()}
    return _without_repeats([(label_text(label), (label_text(label),)) for label in labels])


def _as_in_rows(given: dict[str, tuple[str, ...]], table: Table) -> dict[str, tuple[str, ...]]:
    """The labels that were given, spelled as the rows have them where only case, width or a fraction differ.

    Raises:
        VerbalizerError: a label is in no row, and one of the rows' that was not given looks like it.
    """
    if table.layout.kind not in ("classification", "multilabel"):
        return given
    counts = Counter(labels_in_rows(table.rows, table.layout.target, table.layout.kind == "multilabel"))
    others = [label for label in counts if label not in given]
    plain = {plain_label(label): label for label in others}
    result: dict[str, tuple[str, ...]] = {}
    for label, words in given.items():
        same = plain.get(plain_label(label)) if label not in counts else None
        near = "" if label in counts or same else nearest(label, others)
        if near and counts[near] > 1:
            raise VerbalizerError(
                Message("the label {label!r} is in no row", label=label),
                where="--labels",
                expected=", ".join(sorted(counts)[:20]),
                received=label,
                hint=Message("did you mean {near!r}, which {value} rows have?", near=near, value=counts[near]),
            )
        result[same or label] = words
    return result


def _several(words: str) -> tuple[str, ...]:
    return tuple(words.split("|")) if words.strip("| ") else (words,)


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    pairs = []
    for part in text.translate(FULL_WIDTH).split(","):
        label, equals, words = part.partition("=")
        several = tuple(one.strip() for one in _several(words)) if equals else (label.strip(),)
        pairs.append((label.strip(), several))
    return _without_repeats(pairs)


def _without_repeats(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    for label, count in Counter(label for label, _ in pairs).items():
        if count > 1:
            raise VerbalizerError("a label is given twice", where="--labels", received=label)
    return dict(pairs)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def labels_of(table: Table) -> list[str]:
    """The labels in a table's target column, sorted.

    Raises:
        DataError: none, one only, or too many to be labels.
    """
    counts = Counter(labels_in_rows(table.rows, table.layout.target, table.layout.kind == "multilabel"))
    where, shown = table.name, table.layout.target
    if not counts:
        error = DataError(
            Message("the column {shown!r} has no labels", shown=shown), where=where, hint="name another with --target"
        )
        raise with_causes(error, table.problems)
    if len(counts) == 1:
        hint = "a classification needs two labels or more"
        error = DataError("every row has the same label", where=where, received=next(iter(counts)), hint=hint)
        raise with_causes(error, table.problems)
    if len(counts) > MAX_LABELS or (len(counts) > 20 and len(counts) * 2 > len(table.rows)):
        hint = "if it is text to be written and not a class, say `--task generation`"
        if sum(map(_is_number, counts)) > len(counts) * 0.9:
            hint = "numbers are not predicted here: cut them into classes, such as low, medium and high"
        received = f"{len(counts)} different values in {len(table.rows)} rows"
        raise DataError(
            Message("the column {shown!r} does not look like labels", shown=shown),
            where=where,
            received=received,
            hint=hint,
        )
    return sorted(counts)
