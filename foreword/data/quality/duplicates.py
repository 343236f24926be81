"""Rows that are there twice, nearly twice, in two splits, or with two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from foreword.data.quality.near_duplicates import near_pairs
from foreword.data.quality.unicode import normalise
from foreword.data.row import Problem, Row
from foreword.data.task.columns import target_texts
from foreword.messages import Message

Severity = Literal["error", "warning"]


class Entry:
    """A row with what the comparisons need."""

    __slots__ = ("answer", "input", "normal", "row", "split")

    def __init__(self, split: str, row: Row, inputs: Sequence[str], target: str) -> None:
        self.split, self.row = split, row
        self.input = "\n".join(str(row.fields.get(name) or "").strip() for name in inputs)
        self.answer = "\n".join(target_texts(row, target))
        self.normal = normalise(self.input)

    def problem(self, kind: str, message: str, severity: Severity = "error") -> Problem:
        """A problem at this row."""
        return Problem(kind, str(self.row.source), message, severity, self.row.id, self.split)


def repeated(entries: Sequence[Entry], classes: bool) -> Iterator[Problem]:
    """Equal inputs: duplicates, conflicts, and leaks from one split into another."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.input].append(entry)
    for group in groups.values():
        if len(group) > 1:
            yield from _conflicts(group) if classes else ()
            yield from _duplicates(group, classes)


def _conflicts(group: Sequence[Entry]) -> Iterator[Problem]:
    by_split: dict[str, list[Entry]] = defaultdict(list)
    for entry in group:
        by_split[entry.split].append(entry)
    for members in by_split.values():
        firsts: dict[str, Entry] = {}
        for entry in members:
            firsts.setdefault(entry.answer, entry)
        for entry in members if len(firsts) > 1 else ():
            other = next(one for label, one in firsts.items() if label != entry.answer)
            message = Message(
                "labelled {answer!r} here and {a!r} at {source}",
                answer=entry.answer.replace("\n", "; "),
                a=other.answer.replace("\n", "; "),
                source=other.row.source,
            )
            yield entry.problem("conflict", message)


def _duplicates(group: Sequence[Entry], classes: bool) -> Iterator[Problem]:
    """A row of an earlier split that is in a later one too is the one to drop: the test rows stay as they are."""
    order = list(dict.fromkeys(entry.split for entry in group))
    firsts: dict[tuple[str, str], Entry] = {}
    anyone: dict[str, Entry] = {}
    for entry in group:
        firsts.setdefault((entry.split, entry.answer), entry)
        anyone.setdefault(entry.split, entry)
    for entry in group:
        later = order[order.index(entry.split) + 1 :]
        twins = [anyone.get(name) if classes else firsts.get((name, entry.answer)) for name in later]
        twin = next((one for one in twins if one is not None), None)
        if twin is not None:
            yield entry.problem(
                "duplicate_across", Message("also in {split}, at {source}", split=twin.split, source=twin.row.source)
            )
        elif later:
            other = anyone[later[0]]
            message = Message(
                "the same input has another answer in {split}, at {source}", split=other.split, source=other.row.source
            )
            yield entry.problem("same_input", message, "warning")
        first = firsts[entry.split, entry.answer]
        if first is not entry:
            yield entry.problem("duplicate", Message("the same as {source}", source=first.row.source), "warning")


def near_repeats(entries: Sequence[Entry], classes: bool) -> Iterator[Problem]:
    """Rows that differ only in case, width, punctuation or a few characters."""
    texts = [entry.normal if classes else f"{entry.normal}\n{normalise(entry.answer)}" for entry in entries]
    splits = list(dict.fromkeys(entry.split for entry in entries))
    first: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(entries):
        for name in splits:
            other = first.get((name, texts[index]))
            if other is not None and _exact(entries[other], classes) != _exact(entry, classes):
                yield _near_problem(entries[other], entry, 1.0)
        first.setdefault((entry.split, texts[index]), index)
    kept = list(first.values())
    for pair in near_pairs([texts[index] for index in kept], [entries[index].split for index in kept]):
        yield _near_problem(entries[kept[pair.first]], entries[kept[pair.second]], pair.similarity)


def _exact(entry: Entry, classes: bool) -> tuple[str, str]:
    return entry.input, "" if classes else entry.answer


def _near_problem(earlier: Entry, later: Entry, similarity: float) -> Problem:
    if earlier.split != later.split:
        message = Message(
            "nearly the same as {source} in {split} (similarity {similarity:.2f})",
            source=later.row.source,
            split=later.split,
            similarity=similarity,
        )
        return earlier.problem("near_duplicate_across", message, "warning")
    return later.problem(
        "near_duplicate",
        Message("nearly the same as {source} ({similarity:.2f})", source=earlier.row.source, similarity=similarity),
        "warning",
    )
