"""JSON and JSON Lines, with the line where each row starts. Duplicate keys are a problem, not the last one's win."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from foreword.data.readers.chat_messages import is_conversation
from foreword.data.readers.in_memory import raw_of
from foreword.data.readers.split_names import SPLIT_NAMES
from foreword.data.row import Problem, Raw
from foreword.errors import DataError
from foreword.messages import Message

_SPACE = re.compile(r"[ \t\r\n]*")
_RECURSION = "nested too deeply"


class _Decoder:
    """A JSON decoder that remembers the keys it saw twice. NaN and Infinity are read as null (missing)."""

    def __init__(self) -> None:
        self.twice: list[str] = []
        self._json = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=lambda _: None)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            self.twice += sorted({key for key in keys if keys.count(key) > 1})
        return result

    def value(self, text: str, start: int) -> tuple[object, int]:
        """The value that starts at an offset, and where it ends.

        Raises:
            ValueError: not JSON, a number with too many digits, or nested too deeply.
        """
        self.twice.clear()
        try:
            return self._json.raw_decode(text, start)
        except RecursionError as error:
            raise ValueError(_RECURSION) from error


def _skip(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def read_jsonl(text: str, file: str) -> Raw | Mapping[str, Raw]:
    """One JSON object a line; blank lines are skipped, a line that is not an object is a problem.

    A whole JSON document under this name is read as one.
    """
    start = _skip(text, 0)
    if text.startswith("[", start) or (text.startswith("{", start) and _is_document(text, start)):
        return read_json(text, file)
    return _lines(text, file)


def _lines(text: str, file: str) -> Raw:
    raw, decoder = Raw((), []), _Decoder()
    for number, line in enumerate(text.split("\n"), 1):
        body = line.strip()
        if not body:
            continue
        try:
            value, end = decoder.value(body, 0)
        except ValueError as error:
            raw.problems.append(Problem("unreadable", f"{file}:{number}", Message("not JSON: {error}", error=error)))
            continue
        if end < len(body):
            message = Message("more text after the JSON object at column {value}", value=end + 1)
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
            continue
        _take(raw, value, number, file, decoder)
    return _finished(raw)


def read_json(text: str, file: str) -> Raw | Mapping[str, Raw]:
    """A JSON document with rows, or JSON Lines under this name.

    A document is a list of objects; an object whose ``data`` (or only list of objects) is that list; an object of
    splits, ``{"train": [...], "test": [...]}``; or a table by columns as pandas writes it.

    Raises:
        DataError: not JSON (with the line), or of another shape.
    """
    start = _skip(text, 0)
    if text.startswith("{", start):
        if _is_lines(text, start):
            return _lines(text, file)
        return _of_object(text, start, file)
    if not text.startswith("[", start):
        raise _other_shape(file)
    return _list(text, start, file)


def _other_shape(file: str) -> DataError:
    expected = '[{...}, ...], {"data": [{...}]} or {"train": [{...}], "test": [{...}]}'
    return DataError("the JSON is not a list of rows", where=file, expected=expected)


def _list(text: str, start: int, file: str) -> Raw:
    """The rows of the list that starts at an offset, each with its line."""
    raw, decoder = Raw((), []), _Decoder()
    line, counted = 1, 0
    for value, offset in _elements(text, start, file, decoder):
        line += text.count("\n", counted, offset)
        counted = offset
        _take(raw, value, line, file, decoder)
    return _finished(raw)


def _of_object(text: str, start: int, file: str) -> Raw | Mapping[str, Raw]:
    """The rows of a document that is one object, by the shapes of its values."""
    values = list(_members(text, start, file))
    lists = [(key, offset) for key, offset, value in values if _is_rows(value)]
    data = next((offset for key, offset, value in values if key == "data" and isinstance(value, list)), None)
    if lists and all(key.lower() in SPLIT_NAMES for key, _ in lists):
        return {key.lower(): _list(text, offset, file) for key, offset in lists}
    content = {key: value for key, _, value in values}
    if data is not None and "columns" in content:
        return _of_columns_and_data(content, file)
    if data is not None:
        return _list(text, data, file)
    if len(lists) == 1:
        return _list(text, lists[0][1], file)
    return _by_columns(content, file)


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _of_columns_and_data(content: Mapping[str, object], file: str) -> Raw:
    """pandas' ``orient="split"``: names of the columns, and a list of cells a row."""
    names, rows = content["columns"], content["data"]
    if not isinstance(names, list) or not isinstance(rows, list):
        raise _other_shape(file)
    records: list[object] = [
        dict(zip(map(str, names), row, strict=True)) if isinstance(row, list) and len(row) == len(names) else row
        for row in rows
    ]
    return raw_of(records, None, file)


def _by_columns(content: Mapping[str, object], file: str) -> Raw:
    """A list of cells a column, or pandas' object of cells by row number.

    Raises:
        DataError: of another shape.
    """
    columns: dict[str, list[object]] = {}
    for name, cells in content.items():
        values = list(cells.values()) if isinstance(cells, dict) else cells
        columns[name] = values if isinstance(values, list) else []
    keys = {tuple(cells) for cells in content.values() if isinstance(cells, dict)}
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) != 1 or 0 in lengths or len(keys) > 1 or len(columns) < 2:
        raise _other_shape(file)
    return raw_of([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], None, file)


def _is_document(text: str, start: int) -> bool:
    """Whether the object at ``start`` is the whole text and holds the rows, so that it is no line of JSON Lines."""
    try:
        value, end = _Decoder().value(text, start)
    except ValueError:
        return False
    return _skip(text, end) >= len(text) and _holds_rows(value)


def _holds_rows(value: object) -> bool:
    """Whether an object is a whole data file rather than one row of it."""
    if not isinstance(value, dict):
        return False
    rows = any(_is_rows(item) and not is_conversation(item) for item in value.values())
    if isinstance(value.get("data"), list) or rows:
        return not any(name in value for name in ("messages", "conversations"))
    cells = [list(item.values()) if isinstance(item, dict) else item for item in value.values()]
    same = len(cells) > 1 and len({len(item) if isinstance(item, list) else -1 for item in cells}) == 1
    return same and all(isinstance(item, list) and len(item) > 1 for item in cells)


def _is_lines(text: str, start: int) -> bool:
    """Whether the first object ends its line and something follows: JSON Lines in a file called .json."""
    try:
        value, end = _Decoder().value(text, start)
    except ValueError:
        # A broken first line must not hide the others: two or more lines that start an object are JSON Lines.
        return len(re.findall(r"(?m)^\{.*\}\s*$", text)) > 1
    return _skip(text, end) < len(text) or not _holds_rows(value)


def _members(text: str, start: int, file: str) -> Iterator[tuple[str, int, object]]:
    """Key, offset of the value, and value of the object at ``start``."""
    decoder = _Decoder()
    position = _skip(text, start + 1)
    while text.startswith('"', position):
        try:
            key, end = decoder.value(text, position)
            offset = _skip(text, _skip(text, end) + 1)
            value, end = decoder.value(text, offset)
        except ValueError as error:
            raise _broken(text, error, position, file) from error
        yield str(key), offset, value
        position = _skip(text, _skip(text, end) + 1)


def _elements(text: str, start: int, file: str, decoder: _Decoder) -> Iterator[tuple[object, int]]:
    position = _skip(text, start + 1)
    while not text.startswith("]", position):
        try:
            value, end = decoder.value(text, position)
        except ValueError as error:
            raise _broken(text, error, position, file) from error
        yield value, position
        position = _skip(text, end)
        if text.startswith(",", position):
            position = _skip(text, position + 1)
        elif not text.startswith("]", position):
            raise _broken(text, ValueError("expected a comma or the end of the list"), position, file)


def _broken(text: str, error: ValueError, position: int, file: str) -> DataError:
    at = error.pos if isinstance(error, json.JSONDecodeError) else position
    line = text.count("\n", 0, at) + 1
    hint = "the file may be cut short; JSON Lines (one object a line) loses one row, not the file"
    return DataError("the file is not valid JSON", where=f"{file}:{line}", received=str(error), hint=hint)


def _take(raw: Raw, value: object, line: int, file: str, decoder: _Decoder) -> None:
    where = f"{file}:{line}"
    if not isinstance(value, dict):
        raw.problems.append(
            Problem("unreadable", where, Message("expected an object, received {name}", name=type(value).__name__))
        )
    elif decoder.twice:
        message = Message("the key {value!r} is there twice: which value is meant?", value=decoder.twice[0])
        raw.problems.append(Problem("unreadable", where, message))
    else:
        raw.records.append((value, line))


def _finished(raw: Raw) -> Raw:
    raw.columns = tuple(dict.fromkeys(key for fields, _ in raw.records for key in fields))
    return raw
