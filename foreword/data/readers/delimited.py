"""CSV, TSV and one dialogue pair a line, with the line number where each row starts."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from foreword.data.row import Problem, Raw
from foreword.errors import DataError
from foreword.messages import Message

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


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends: only CR, LF and CRLF end a line, as in files."""
    return list(io.StringIO(text, newline=""))


def read_csv(text: str, file: str) -> Raw:
    """Comma (or semicolon, tab, bar) separated values whose first line names the columns.

    A line ``sep=;`` in front of the header, which Excel writes and reads, names the delimiter.

    Raises:
        DataError: only a header, two columns with one name, or quotes that make no sense.
    """
    lines = lines_of(text)
    delimiter = _named_delimiter(lines)
    if delimiter:
        lines[0] = "\n"
    else:
        delimiter = _delimiter(next((line for line in lines if line.strip()), ""))
    problems: list[Problem] = []
    records = list(_quoted(lines, delimiter, file, problems))
    if len(problems) >= _MAX_QUOTE_PROBLEMS:
        hint = 'put cells that contain " or a line break in quotes, and double the quotes inside: ""'
        raise DataError("the quotes in this file are not CSV", where=problems[0].where, hint=hint)
    return _with_header(records, problems, file)


def read_tsv(text: str, file: str, names: Collection[str]) -> Raw:
    """Tab-separated values whose first line names the columns, or two columns of free text without a header.

    Args:
        names: column names (lower case) that make the first line a header.

    Quotes count only if the whole file uses them as CSV does: most files with tabs do not quote, and one stray quote
    would swallow the lines after it.
    """
    lines = lines_of(text)
    if _named_delimiter(lines) == "\t":
        lines[0] = "\n"
    elif _are_pairs(lines, names):
        return read_pairs(text, file)
    problems: list[Problem] = []
    records = list(_quoted(lines, "\t", file, problems))
    if any(problem.kind == "unreadable" for problem in problems):
        problems = []
        records = [(line.rstrip("\r\n").split("\t"), number) for number, line in enumerate(lines, 1) if line.strip()]
    return _with_header(records, problems, file)


def looks_like_table(text: str, names: Collection[str]) -> str:
    """The delimiter of a text whose first line is a header with a name among ``names``; "" where it is none."""
    first = next((line for line in lines_of(text[:100_000]) if line.strip()), "")
    if _named_delimiter([first]):
        return _named_delimiter([first])
    delimiter = _delimiter(first)
    cells = _header_cells(first, delimiter)
    known = len(cells) > 1 and any(cell.lower() in names for cell in cells) and all(map(_is_name, cells))
    return delimiter if known else ""


def _named_delimiter(lines: Sequence[str]) -> str:
    """The delimiter of a first line such as ``sep=;``; "" where there is no such line."""
    stated = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE) if lines else None
    return stated[1] if stated else ""


def _header_cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.rstrip("\r\n").split(delimiter)]


def _is_name(cell: str) -> bool:
    """Whether a cell could be a column's name: short, and no sentence."""
    return 0 < len(cell) <= 40 and len(cell.split()) <= 3 and not cell.endswith((".", "!", "?", "。", "！", "？"))


def _are_pairs(lines: Sequence[str], names: Collection[str]) -> bool:
    """Whether lines with tabs are pairs without a header: two columns, both free text, and a first line of no names.

    A first line of two single words may be a header in another language as well as a short pair, so it counts as one.
    """
    rows = [line.rstrip("\r\n").split("\t") for line in lines[:2000] if line.strip()]
    first = [cell.strip().strip('"') for cell in rows[0]] if rows else []
    if len(first) != 2 or any(cell.lower() in names for cell in first):
        return False
    if all(_is_name(cell) and len(cell.split()) == 1 and cell.isascii() for cell in first):
        return False
    columns = list(zip(*(row for row in rows if len(row) == 2), strict=True))
    return all(_is_free_text(column) for column in columns)


def _is_free_text(cells: Sequence[str]) -> bool:
    """Whether most cells differ from each other and some are more than a word."""
    different = {cell.strip() for cell in cells}
    long = sum(len(cell.split()) > 1 or len(cell) > 12 or not cell.isascii() for cell in different)
    return len(different) * 2 > len(cells) and long * 3 >= len(different)


def read_pairs(text: str, file: str, labelled: bool = True) -> Raw:
    """One dialogue pair a line: source, tab, reply. No header, no quotes; without ``labelled`` the reply may lack."""
    raw = Raw(("source", "reply"), [])
    for number, line in enumerate(lines_of(text), 1):
        cells = line.rstrip("\r\n").split("\t")
        if not line.strip():
            continue
        if len(cells) == 2:
            raw.records.append(({"source": cells[0], "reply": cells[1]}, number))
        elif len(cells) == 1 and not labelled:
            raw.records.append(({"source": cells[0]}, number))
        else:
            message = Message("{value} tabs in the line; a pair is source, one tab, reply", value=len(cells) - 1)
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
                        message = Message("one row runs over {span} lines; is a quote not closed?", span=span)
                        problems.append(Problem("long_row", f"{file}:{line + 1}", message, "warning"))
                    if any(cell.strip() for cell in cells) or len(cells) > 1:
                        yield cells, line + 1
                    line = start + reader.line_num
                return
            except csv.Error as error:
                why = "a quote is opened and never closed" if "end of data" in str(error) else str(error)
                message = Message('{why}; quotes inside a quoted cell are doubled: ""', why=why)
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
    columns = header_names(header, f"{file}:{line}")
    raw = Raw(columns, [], problems)
    for cells, number in records[1:]:
        # A spreadsheet often leaves empty cells behind the last column.
        while len(cells) > len(columns) and not cells[-1].strip():
            cells = cells[:-1]
        if len(cells) == len(columns):
            raw.records.append((dict(zip(columns, cells, strict=True)), number))
        else:
            message = Message(
                "{n} cells; the header has {a} ({names})", n=len(cells), a=len(columns), names=", ".join(columns)
            )
            problems.append(Problem("unreadable", f"{file}:{number}", message))
    return raw


def header_names(header: Sequence[str], where: str) -> tuple[str, ...]:
    """Column names out of a header's cells; a cell without one gets ``column_N``.

    Raises:
        DataError: two are the same.
    """
    columns = tuple(name.strip() or f"column_{index}" for index, name in enumerate(header, 1))
    double = sorted({name for name in columns if columns.count(name) > 1})
    if double:
        raise DataError("two columns have the same name", where=where, received=", ".join(double))
    return columns
