"""Text files without a header: dialogue pairs with a tab between, paragraphs of plain text, or a text a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from foreword.data.readers.delimited import lines_of, read_pairs
from foreword.data.row import Raw


def read_plain_text(text: str, file: str, labelled: bool = True) -> Raw:
    """Pairs where a line has a tab; else texts in the column ``text``.

    To learn from, a text is a paragraph where blank lines part some, else a line; to predict on it is a line.
    """
    lines = [(line.rstrip("\r\n"), number) for number, line in enumerate(lines_of(text), 1)]
    if any("\t" in line for line, _ in lines):
        return read_pairs(text, file, labelled)
    found = _paragraphs(lines) if labelled else ((line, number) for line, number in lines if line.strip())
    return Raw(("text",), [({"text": line}, number) for line, number in found], unnamed=True)


def _paragraphs(lines: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """What stands between blank lines, with the number of its first line; every line where there are none inside."""
    filled = [place for place, (line, _) in enumerate(lines) if line.strip()]
    inside = any(later - place > 1 for place, later in pairwise(filled))
    part: list[tuple[str, int]] = []
    for line, number in [*lines, ("", 0)]:
        if line.strip():
            part.append((line, number))
        if part and (not line.strip() or not inside):
            yield "\n".join(text for text, _ in part), part[0][1]
            part = []
