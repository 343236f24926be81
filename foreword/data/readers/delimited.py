"""CSV, TSV and one dialogue pair a line, with the line number where each row starts."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from foreword.data.row import Problem, Raw
from foreword.errors import DataError

Record = tuple[list[str], int]
_MAX_QUOTE_PROBLEMS = 100
_LONG_QUOTE = 50


@contextmanager
def _wide_cells() -> Iterator[None]:
    """Cells of any length: the csv module's own limit is 131,072 characters, and it is global."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def read_csv(text: str, file: str) -> Raw:
    """Comma (or semicolon, tab, bar) separated values whose first line names the columns.

    Raises:
        DataError: only a header, two columns with one name, or quotes that make no sense.
    """
    lines = list(io.StringIO(text, newline=""))
    delimiter = _delimiter(next((line for line in lines if line.strip()), ""))
    problems: list[Problem] = []
    records = list(_quoted(lines, delimiter, file, problems))
    if len(problems) >= _MAX_QUOTE_PROBLEMS:
        hint = 'put cells that contain " or a line break in quotes, and double the quotes inside: ""'
        raise DataError("the quotes in this file are not CSV", where=problems[0].where, hint=hint)
    return _with_header(records, problems, file)


def read_tsv(text: str, file: str, names: Collection[str]) -> Raw:
    """Tab-separated values; without a header when no cell of the first line is a column name we know.

    Args:
        names: column names (lower case) that make the first line a header.

    Two columns without a header are dialogue pairs. Quotes count only if the whole file uses them as CSV does: most
    files with tabs do not quote, and one stray quote would swallow the lines after it.
    """
    lines = list(io.StringIO(text, newline=""))
    first = [cell.strip().strip('"').lower() for cell in lines[0].rstrip("\r\n").split("\t")] if lines else []
    if len(first) == 2 and not any(cell in names for cell in first):
        return read_pairs(text, file)
    problems: list[Problem] = []
    records = list(_quoted(lines, "\t", file, problems))
    if any(problem.kind == "unreadable" for problem in problems):
        problems = []
        records = [(line.rstrip("\r\n").split("\t"), number) for number, line in enumerate(lines, 1) if line.strip()]
    return _with_header(records, problems, file)


def read_pairs(text: str, file: str, labelled: bool = True) -> Raw:
    """One dialogue pair a line: source, tab, reply. No header, no quotes; without ``labelled`` the reply may lack."""
    raw = Raw(("source", "reply"), [])
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        cells = line.rstrip("\r\n").split("\t")
        if not line.strip():
            continue
        if len(cells) == 2:
            raw.records.append(({"source": cells[0], "reply": cells[1]}, number))
        elif len(cells) == 1 and not labelled:
            raw.records.append(({"source": cells[0]}, number))
        else:
            message = f"{len(cells) - 1} tabs in the line; a pair is source, one tab, reply"
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
    return raw


def _delimiter(header: str) -> str:
    outside = "".join(part for index, part in enumerate(header.split('"')) if index % 2 == 0)
    return max(",;\t|", key=lambda mark: (outside.count(mark), mark == ","))


def _quoted(lines: list[str], delimiter: str, file: str, problems: list[Problem]) -> Iterator[Record]:
    """Records as (cells, line). After a row that is not CSV, reading goes on at the next line."""
    start, bad = 0, 0
    with _wide_cells():
        while start < len(lines):
            reader = csv.reader(lines[start:], delimiter=delimiter, strict=True)
            line = start
            try:
                for cells in reader:
                    span = start + reader.line_num - line
                    if span > _LONG_QUOTE:
                        message = f"one row runs over {span} lines; is a quote not closed?"
                        problems.append(Problem("long_row", f"{file}:{line + 1}", message, "warning"))
                    if any(cell.strip() for cell in cells) or len(cells) > 1:
                        yield cells, line + 1
                    line = start + reader.line_num
                return
            except csv.Error as error:
                why = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
                message = f'{why}; quotes inside a quoted cell are doubled: ""'
                problems.append(Problem("unreadable", f"{file}:{line + 1}", message))
                bad += 1
                if bad >= _MAX_QUOTE_PROBLEMS:
                    return
                start = line + 1


def _with_header(records: list[Record], problems: list[Problem], file: str) -> Raw:
    if not records:
        where = problems[0].where if problems else file
        raise DataError("the file has no rows", where=where, expected="a first line with column names, then rows")
    header, line = records[0]
    columns = tuple(name.strip() or f"column_{index}" for index, name in enumerate(header, 1))
    double = sorted({name for name in columns if columns.count(name) > 1})
    if double:
        raise DataError("two columns have the same name", where=f"{file}:{line}", received=", ".join(double))
    raw = Raw(columns, [], problems)
    for cells, number in records[1:]:
        # A spreadsheet often leaves empty cells behind the last column.
        while len(cells) > len(columns) and not cells[-1].strip():
            cells = cells[:-1]
        if len(cells) == len(columns):
            raw.records.append((dict(zip(columns, cells, strict=True)), number))
        else:
            message = f"{len(cells)} cells; the header has {len(columns)} ({', '.join(columns)})"
            problems.append(Problem("unreadable", f"{file}:{number}", message))
    return raw
