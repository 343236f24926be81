"""Whatever a file holds: never a traceback, and every row is used or named."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreword.data.readers.read import read
from foreword.errors import ForewordError

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CELL = st.one_of(
    TEXT, st.integers(), st.booleans(), st.none(), st.lists(TEXT, max_size=2), st.dictionaries(TEXT, TEXT, max_size=2)
)


def accounted(source: Any) -> int | None:
    """Rows used and rows named; None where the whole source is refused with a reason."""
    try:
        table = read(source)
    except ForewordError:
        return None
    return len(table.rows) + sum(problem.kind == "unreadable" for problem in table.problems)


@QUICK
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_csv_rows(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("text", "label"), *rows])
    path = tmp_path / "a.csv"
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    assert accounted(path) in (None, len(rows))


@QUICK
@given(rows=st.lists(st.fixed_dictionaries({"text": CELL, "label": CELL}), min_size=1, max_size=8))
def test_rows_of_json_and_of_memory(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    for name, content in (("a.jsonl", "\n".join(map(json.dumps, rows))), ("b.json", json.dumps(rows))):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert accounted(tmp_path / name) in (None, len(rows))
    assert accounted(rows) in (None, len(rows))


@QUICK
@given(
    messages=st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": CELL}), max_size=4
    )
)
def test_conversations(messages: list[dict[str, object]]) -> None:
    rows = [
        {"messages": messages},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    assert accounted(rows) in (None, 2)


@QUICK
@given(data=st.binary(max_size=80))
@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet", ".arrow", ".xlsx", ".conll", ""]
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    accounted(path)
