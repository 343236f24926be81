"""Where each test row's predictions stand on disk, so that a page of them is read without reading the others.

One pass over a run's two files makes arrays of a few bytes a row; the texts stay on disk.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

PAGE = 50
FILTERS = ("", "wrong", "changed", "won", "lost", "unsure")
_SEARCHES = 8


@dataclass
class RowIndex:
    """Of each row: the offsets of its lines, whether prompt and foreword are right, and how sure the foreword is."""

    prompt: Path
    foreword: Path
    prompt_at: array[int] = field(default_factory=lambda: array("q"))
    foreword_at: array[int] = field(default_factory=lambda: array("q"))
    prompt_right: bytearray = field(default_factory=bytearray)
    foreword_right: bytearray = field(default_factory=bytearray)
    sure: array[float] = field(default_factory=lambda: array("f"))
    label_of: array[int] = field(default_factory=lambda: array("l"))
    labels: list[str] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    _searched: dict[str, frozenset[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.foreword_at)

    def chosen(self, kind: str, label: str, text: str) -> list[int]:
        """The rows of a filter, a label (by its right answer) and a search, in their order."""
        rows: list[int] = list(range(len(self)))
        if kind == "wrong":
            rows = [row for row in rows if not self.foreword_right[row]]
        elif kind == "changed":
            rows = [row for row in rows if self.foreword_right[row] != self.prompt_right[row]]
        elif kind == "won":
            rows = [row for row in rows if self.foreword_right[row] and not self.prompt_right[row]]
        elif kind == "lost":
            rows = [row for row in rows if self.prompt_right[row] and not self.foreword_right[row]]
        elif kind == "unsure":
            rows.sort(key=self.sure.__getitem__)
        if label in self.labels:
            wanted = self.labels.index(label)
            rows = [row for row in rows if self.label_of[row] == wanted]
        if text:
            hits = self._search(text.casefold())
            rows = [row for row in rows if row in hits]
        return rows

    def counts(self) -> Counter[str]:
        """How many rows each filter has."""
        pairs = list(zip(self.prompt_right, self.foreword_right, strict=True))
        return Counter({
            "": len(self), "wrong": sum(not new for _, new in pairs), "changed": sum(a != b for a, b in pairs),
            "won": sum(b > a for a, b in pairs), "lost": sum(a > b for a, b in pairs), "unsure": len(self),
        })  # fmt: skip

    def row(self, number: int) -> ShownRow:
        """One row, read from the files."""
        before = _line_at(self.prompt, self.prompt_at[number]) if self.prompt_at[number] >= 0 else {}
        return ShownRow.of(_line_at(self.foreword, self.foreword_at[number]), before)

    def _search(self, text: str) -> frozenset[int]:
        if text not in self._searched:
            while len(self._searched) >= _SEARCHES:
                self._searched.pop(next(iter(self._searched)))
            found = (number for number, (_, record) in enumerate(_lines(self.foreword)) if _has(record, text))
            self._searched[text] = frozenset(found)
        return self._searched[text]


@dataclass(frozen=True)
class ShownRow:
    """A test row with both answers; ``sure`` are the probabilities of the answers, ``probabilities`` the labels'."""

    ident: str
    input: str
    gold: str
    answer: str
    prompt_answer: str
    right: bool
    prompt_right: bool
    sure: float | None
    prompt_sure: float | None
    tokens: int
    probabilities: Mapping[str, float]

    @classmethod
    def of(cls, record: Mapping[str, Any], before: Mapping[str, Any]) -> ShownRow:
        """From the lines of the foreword's and the prompt's predictions."""
        shares = probabilities(record)
        return cls(
            ident=str(record["id"]), input=str(record["input"]), gold=str(record["gold"]),
            answer=str(record["output"]), prompt_answer=str(before.get("output", "")), right=is_right(record),
            prompt_right=bool(before) and is_right(before), sure=shares.get(str(record["output"])),
            prompt_sure=probabilities(before).get(str(before.get("output", ""))),
            tokens=int(record.get("tokens") or 0), probabilities=shares,
        )  # fmt: skip


def row_index(folder: Path) -> RowIndex | None:
    """The index of a run's folder; None where it has no predictions."""
    prompt, foreword = (folder / "predictions" / f"{name}.jsonl" for name in ("prompt", "foreword"))
    try:
        stamps = (foreword.stat().st_mtime_ns, prompt.stat().st_mtime_ns if prompt.exists() else 0)
    except OSError:
        return None
    return _index(prompt, foreword, stamps)


@lru_cache(maxsize=3)
def _index(prompt: Path, foreword: Path, stamps: tuple[int, int]) -> RowIndex:
    index = RowIndex(prompt, foreword)
    before: dict[str, tuple[int, bool]] = {}
    if prompt.exists():
        before = {str(record["id"]): (offset, is_right(record)) for offset, record in _lines(prompt)}
    known: dict[str, int] = {}
    for number, (offset, record) in enumerate(_lines(foreword)):
        ident, shares = str(record["id"]), probabilities(record)
        at, right = before.get(ident, (-1, False))
        index.ids[ident] = number
        index.foreword_at.append(offset)
        index.prompt_at.append(at)
        index.foreword_right.append(is_right(record))
        index.prompt_right.append(right)
        index.sure.append(max(shares.values()) if shares else float(record.get("score") or 0.0))
        index.label_of.append(known.setdefault(str(record["gold"]), len(known)))
    index.labels = list(known) if len(known) <= 200 else []
    return index


def own_text(shown: str, template: str) -> str:
    """What is a row's own in the text that the model read: without what a template of one field says every time.

    >>> own_text("Text: fine.\\nLabel:", "Text: {{ text }}\\nLabel:")
    'fine.'
    """
    before, opened, rest = template.partition("{{")
    _, closed, after = rest.partition("}}")
    if not opened or not closed or "{" in after or "{" in before:
        return shown
    start = shown.find(before.strip()) if before.strip() else 0
    end = shown.rfind(after.strip()) if after.strip() else len(shown)
    return shown[start + len(before.strip()) : end].strip() if 0 <= start <= end else shown


def probabilities(record: Mapping[str, Any]) -> dict[str, float]:
    """The labels' probabilities, from their scores; empty where a text was written."""
    scores = {name: value for name, value in (record.get("scores") or {}).items() if not name.startswith("gold_")}
    if not scores or any(value is None for value in scores.values()):
        return {}
    most = max(scores.values())
    shares = {name: math.exp(value - most) for name, value in scores.items()}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def is_right(record: Mapping[str, Any]) -> bool:
    """Whether the answer is one of those that are accepted."""
    return record["output"] in (record.get("references") or [record["gold"]])


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and record of each line."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield offset, json.loads(line)
            offset += len(line)


def _line_at(path: Path, offset: int) -> dict[str, Any]:
    with path.open("rb") as file:
        file.seek(offset)
        record: dict[str, Any] = json.loads(file.readline())
        return record


def _has(record: Mapping[str, Any], text: str) -> bool:
    return any(text in str(record[name]).casefold() for name in ("input", "output", "gold"))
