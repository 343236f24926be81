"""Whatever a file holds: never a traceback, and every row is used or named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather

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


FEW = settings(QUICK, max_examples=15)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12)


@FEW
@given(rows=st.lists(st.tuples(LINE, LINE), min_size=1, max_size=6))
@pytest.mark.parametrize("suffix", ["tsv", "txt", "csv.gz", "parquet", "arrow", "xlsx"])
def test_tables_of_every_kind(tmp_path: Path, suffix: str, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / f"a.{suffix}"
    lines = [("text", "label"), *rows]
    if suffix in ("parquet", "arrow"):
        table = pa.table({"text": [a for a, _ in rows], "label": [b for _, b in rows]})
        pq.write_table(table, path) if suffix == "parquet" else feather.write_feather(table, str(path))
    elif suffix == "xlsx":
        book = openpyxl.Workbook()
        try:
            for line in lines:
                book.active.append(line)  # type: ignore[union-attr]
        except (ValueError, openpyxl.utils.exceptions.IllegalCharacterError):
            return
        book.save(path)
    else:
        stream = io.StringIO(newline="")
        if suffix == "csv.gz":
            csv.writer(stream).writerows(lines)
        else:
            stream.write("".join(f"{a}\t{b}\n" for a, b in lines))
        content = stream.getvalue().encode()
        path.write_bytes(gzip.compress(content) if suffix == "csv.gz" else content)
    found = accounted(path)
    # A row without any cell is no row to a spreadsheet, and a line without anything but white space none to a text.
    blank = sum(not (a.strip() or b.strip()) for a, b in rows)
    header = suffix == "txt"
    assert found is None or len(rows) - blank <= found <= len(rows) + header


@FEW
@given(texts=st.lists(LINE.filter(str.strip), min_size=1, max_size=6), gap=st.sampled_from(["\n", "\n\n", "\n \n\n"]))
def test_plain_text_loses_no_line(tmp_path: Path, texts: list[str], gap: str) -> None:
    (tmp_path / "a.txt").write_text(gap.join(texts), encoding="utf-8")
    try:
        table = read(tmp_path / "a.txt")
    except ForewordError:
        return
    if table.layout.plain:
        shown = "\n".join(str(row.fields["text"]) for row in table.rows)
        assert [line.strip() for line in shown.split("\n") if line.strip()] == [text.strip() for text in texts]


@FEW
@given(sentences=st.lists(st.lists(st.sampled_from(["B-x", "I-x", "O", "word"]), min_size=1, max_size=4), min_size=1))
def test_conll_sentences(tmp_path: Path, sentences: list[list[str]]) -> None:
    text = "\n\n".join("\n".join(f"w{i} {tag}" for i, tag in enumerate(tags)) for tags in sentences)
    (tmp_path / "a.conll").write_text(text + "\n", encoding="utf-8")
    assert accounted(tmp_path / "a.conll") in (None, len(sentences))


@FEW
@given(history=st.lists(st.one_of(st.none(), TEXT, st.lists(st.lists(TEXT, max_size=3), max_size=2)), max_size=5))
def test_histories(history: list[object]) -> None:
    rows = [{"instruction": "a", "input": "", "output": "b", "history": cell} for cell in history]
    assert accounted([*rows, {"instruction": "a", "output": "b", "history": [["c", "d"]]}]) in (None, len(rows) + 1)


@FEW
@given(
    turns=st.lists(st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "?"]), "value": CELL}), max_size=4)
)
def test_sharegpt(turns: list[dict[str, object]]) -> None:
    good = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert accounted([{"conversations": turns}, {"conversations": good, "system": None}]) in (None, 2)


@FEW
@given(labels=st.lists(st.one_of(st.none(), TEXT, st.lists(CELL, max_size=3)), max_size=5))
def test_several_labels(labels: list[object]) -> None:
    rows = [{"text": f"t{i}", "labels": cell} for i, cell in enumerate(labels)]
    try:
        table = read([*rows, {"text": "x", "labels": ["a", "b"]}], kind="multilabel")
    except ForewordError:
        return
    assert len(table.rows) + len(table.problems) == len(rows) + 1


@FEW
@given(args=st.lists(st.one_of(TEXT, st.integers(-1, 3), st.lists(st.one_of(TEXT, st.integers(-1, 3)), max_size=3))))
def test_semantic_roles(args: list[object]) -> None:
    rows = [{"tokens": ["a", "b"], "predicate": 1, "args": args}, {"tokens": ["a"], "predicate": 0, "args": []}]
    assert accounted(rows) in (None, 2)


@FEW
@given(parts=st.lists(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_folder_of_parts(tmp_path: Path, parts: list[list[tuple[str, str]]]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    for number, rows in enumerate(parts):
        lines = [json.dumps({"text": a, "label": b}) for a, b in rows]
        (folder / f"part-{number:05}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert accounted(folder) in (None, sum(map(len, parts)))
