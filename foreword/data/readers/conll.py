"""CoNLL files: a word and its tag a line, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

from foreword.data.row import Problem, Raw
from foreword.data.task.tagging import OUTSIDE

_TAG = re.compile(r"(O|[BI]-\S+)\Z")
_SAMPLE = 2000


def looks_like_conll(text: str) -> bool:
    """Whether a text of lines with tabs is of this kind: blank lines inside it, and tags at the end of the others."""
    lines = text.strip().splitlines()[:_SAMPLE]
    full = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    ends = [line.split()[-1] for line in full]
    return len(full) < len(lines) and all(map(_TAG.match, ends)) and any(tag != OUTSIDE for tag in ends)


def read_conll(text: str, file: str) -> Raw:
    """Sentences as ``tokens`` and ``tags``: of each line the first column is the word and the last its tag.

    Columns are parted by tabs or spaces. Lines that begin with ``# `` and ``-DOCSTART-`` are left out. A sentence with
    a line of one column only is a problem, unless the whole file has no tags (data to predict on).
    """
    sentences = list(_sentences(text))
    tagged = any(len(cells) > 1 for _, lines in sentences for _, cells in lines)
    raw = Raw(("tokens", "tags") if tagged else ("tokens",), [])
    for start, lines in sentences:
        bare = next((number for number, cells in lines if tagged and len(cells) < 2), None)
        if bare is not None:
            raw.problems.append(Problem("unreadable", f"{file}:{bare}", "the line has a word and no tag"))
            continue
        fields: dict[str, object] = {"tokens": " ".join(cells[0] for _, cells in lines)}
        if tagged:
            fields["tags"] = " ".join(cells[-1] for _, cells in lines)
        raw.records.append((fields, start))
    return raw


def _sentences(text: str) -> Iterator[tuple[int, list[tuple[int, list[str]]]]]:
    """Each sentence's first line number, and its lines as (number, columns)."""
    lines: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        cells = [cell.replace(" ", "\u00a0") for cell in line.strip().split("\t")] if "\t" in line else line.split()
        if not any(cells):
            if lines:
                yield lines[0][0], lines
            lines = []
        elif not line.startswith(("# ", "-DOCSTART-")):
            lines.append((number, cells))
    if lines:
        yield lines[0][0], lines
