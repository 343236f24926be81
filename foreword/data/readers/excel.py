"""Excel workbooks (``.xlsx``), with the extra ``excel``. A row's line is its row number in the sheet."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from foreword.data.readers.charset import MAX_BYTES
from foreword.data.readers.delimited import header_names
from foreword.data.readers.in_memory import plain_value
from foreword.data.readers.split_names import SPLIT_NAMES
from foreword.data.row import Problem, Raw
from foreword.errors import DataError
from foreword.messages import Message


def read_excel(data: bytes, file: str) -> Raw | Mapping[str, Raw]:
    """The rows of a workbook's first sheet that has some; sheets called train, dev and test are splits.

    The first row names the columns. Formulas count as the value that was saved with them, errors such as #N/A as
    missing. Other sheets are named in a warning.

    Raises:
        DataError: no workbook, damaged, too large, or the extra is not installed.
    """
    _refuse_other(data, file)
    try:
        import openpyxl
    except ImportError as error:
        hint = "save the sheet as CSV UTF-8, or install the extra: pip install 'foreword[excel]'"
        raise DataError("this is an Excel workbook, which needs openpyxl", where=file, hint=hint) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets = {sheet.title: _cells(sheet) for sheet in book.worksheets}
    except Exception as error:  # a damaged workbook fails in openpyxl with almost any exception
        hint = "save the sheet as CSV UTF-8"
        raise DataError("the workbook cannot be read", where=file, received=str(error), hint=hint) from error
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise DataError("the workbook has no rows", where=file, hint="give a sheet with column names and rows")
    if len(filled) > 1 and all(title.lower() in SPLIT_NAMES for title in filled):
        return {title.lower(): _raw(rows, file) for title, rows in filled.items()}
    first, *others = filled
    raw = _raw(filled[first], file)
    if others:
        message = Message(
            "only the sheet {first!r} is read, not {names}", first=first, names=", ".join(map(repr, others))
        )
        raw.problems.append(Problem("not_read", f"{file}:1", message, "warning"))
    return raw


def _refuse_other(data: bytes, file: str) -> None:
    hint = "save the sheet as CSV UTF-8"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError("this is an old Excel workbook, or one with a password", where=file, hint=hint)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise DataError("this is no Excel workbook", where=file, received=str(error), hint=hint) from error
    if size > MAX_BYTES:
        raise DataError(
            "the workbook is too large when unpacked",
            where=file,
            expected=Message("at most {MAX_BYTES:,} bytes", MAX_BYTES=MAX_BYTES),
        )


def _cells(sheet: Any) -> list[tuple[list[object], int]]:
    """Rows that are not empty, with their numbers from 1."""
    rows = []
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values = [None if cell.data_type == "e" else plain_value(cell.value) for cell in cells]
        if any(value is not None and str(value).strip() for value in values):
            rows.append((values, number))
    return rows


def _raw(rows: list[tuple[list[object], int]], file: str) -> Raw:
    header, line = rows[0]
    while header and (header[-1] is None or not str(header[-1]).strip()):
        header = header[:-1]
    columns = header_names(["" if name is None else str(name) for name in header], f"{file}:{line}")
    raw = Raw(columns, [])
    for values, number in rows[1:]:
        if any(value is not None and str(value).strip() for value in values[len(columns) :]):
            message = Message(
                "{n} cells; the header has {a} ({names})", n=len(values), a=len(columns), names=", ".join(columns)
            )
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
            continue
        padded = [*values, *[None] * (len(columns) - len(values))]
        raw.records.append((dict(zip(columns, padded, strict=False)), number))
    return raw
