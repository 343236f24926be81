"""One plain table for terminals."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def text_table(lines: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Lines of cells as lines of text, columns under each other; Chinese characters are two columns wide."""
    if not lines:
        return []
    widths = [max(_width(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        gap.join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)
