"""Text files without a header: dialogue pairs with a tab between, or a text a line."""

from __future__ import annotations

from foreword.data.readers.delimited import lines_of, read_pairs
from foreword.data.row import Raw


def read_plain_text(text: str, file: str, labelled: bool = True) -> Raw:
    """Pairs; where nothing needs to be learned and no line has a tab, one text a line in the column ``text``."""
    lines = [(line, number) for number, line in enumerate(lines_of(text), 1) if line.strip()]
    if labelled or any("\t" in line for line, _ in lines):
        return read_pairs(text, file, labelled)
    return Raw(("text",), [({"text": line.rstrip("\r\n")}, number) for line, number in lines], unnamed=True)
