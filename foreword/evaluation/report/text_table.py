"""A table of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from foreword.messages.width import columns, padded


def text_table(lines: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Lines of cells as lines of text, columns under each other; Chinese characters are two columns wide."""
    if not lines:
        return []
    widths = [max(columns(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [gap.join(map(padded, line, widths)).rstrip() for line in lines]
