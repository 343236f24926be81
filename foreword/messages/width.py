"""Columns of a terminal: a Chinese character is two columns wide, and a line may break at it."""

from __future__ import annotations

import re
from unicodedata import east_asian_width


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def padded(text: str, width: int) -> str:
    """The text with spaces behind it up to ``width`` columns."""
    return text + " " * (width - columns(text))


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns; a break stands at a space or at a character of two columns.

    >>> wrapped("读 DATA 文件", 6)
    ['读', 'DATA', '文件']
    """
    lines: list[str] = []
    line = ""
    for word in re.findall(r"[^\s\u2e80-\uffef]+|[\u2e80-\uffef][，。；：、）！？]*|\s+", text):
        if columns(line + word.rstrip()) > width and line.strip():
            lines, line = [*lines, line.rstrip()], word.lstrip()
        else:
            line += word
    return [*lines, line.rstrip()]
