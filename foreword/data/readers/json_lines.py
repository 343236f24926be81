"""JSON and JSON Lines, with the line where each row starts. Duplicate keys are a problem, not the last one's win."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from foreword.data.row import Problem, Raw
from foreword.errors import DataError

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


def read_jsonl(text: str, file: str) -> Raw:
    """One JSON object a line; blank lines are skipped, a line that is not an object is a problem."""
    raw, decoder = Raw((), []), _Decoder()
    for number, line in enumerate(text.split("\n"), 1):
        body = line.strip()
        if not body:
            continue
        try:
            value, end = decoder.value(body, 0)
        except ValueError as error:
            raw.problems.append(Problem("unreadable", f"{file}:{number}", f"not JSON: {error}"))
            continue
        if end < len(body):
            message = f"more text after the JSON object at column {end + 1}"
            raw.problems.append(Problem("unreadable", f"{file}:{number}", message))
            continue
        _take(raw, value, number, file, decoder)
    return _finished(raw)


def read_json(text: str, file: str) -> Raw:
    """A JSON list of objects, or an object whose ``data`` is that list; JSON Lines under this name is read too.

    Raises:
        DataError: not JSON (with the line), or of another shape.
    """
    start = _skip(text, 0)
    if text.startswith("{", start):
        if _is_lines(text, start):
            return read_jsonl(text, file)
        start = _data_list(text, start, file)
    if not text.startswith("[", start):
        raise DataError("the JSON is not a list of rows", where=file, expected='[{...}, ...] or {"data": [{...}]}')
    raw, decoder = Raw((), []), _Decoder()
    line, counted = 1, 0
    for value, offset in _elements(text, start, file, decoder):
        line += text.count("\n", counted, offset)
        counted = offset
        _take(raw, value, line, file, decoder)
    return _finished(raw)


def _is_lines(text: str, start: int) -> bool:
    """Whether the first object ends its line and something follows: JSON Lines in a file called .json."""
    try:
        value, end = _Decoder().value(text, start)
    except ValueError:
        # A broken first line must not hide the others: two or more lines that start an object are JSON Lines.
        return len(re.findall(r"(?m)^\{.*\}\s*$", text)) > 1
    return _skip(text, end) < len(text) or not (isinstance(value, dict) and isinstance(value.get("data"), list))


def _data_list(text: str, start: int, file: str) -> int:
    """The offset of the list under the key ``data`` of the object at ``start``."""
    decoder = _Decoder()
    position = _skip(text, start + 1)
    while text.startswith('"', position):
        try:
            key, end = decoder.value(text, position)
            position = _skip(text, _skip(text, end) + 1)
            if key == "data":
                return position
            _, end = decoder.value(text, position)
        except ValueError as error:
            raise _broken(text, error, position, file) from error
        position = _skip(text, _skip(text, end) + 1)
    return position


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
        raw.problems.append(Problem("unreadable", where, f"expected an object, received {type(value).__name__}"))
    elif decoder.twice:
        message = f"the key {decoder.twice[0]!r} is there twice: which value is meant?"
        raw.problems.append(Problem("unreadable", where, message))
    else:
        raw.records.append((value, line))


def _finished(raw: Raw) -> Raw:
    raw.columns = tuple(dict.fromkeys(key for fields, _ in raw.records for key in fields))
    return raw
