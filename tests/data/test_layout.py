"""Recognising what the columns mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.data.readers.read import read
from foreword.data.task.columns import recognise
from foreword.errors import DataError


@pytest.mark.parametrize(
    ("columns", "kind", "inputs", "target"),
    [
        ("text label", "classification", "text", "label"),
        ("id Review Category", "classification", "Review", "Category"),
        ("content class", "classification", "content", "class"),
        ("premise hypothesis label idx", "classification", "premise hypothesis", "label"),
        ("label id sentence keywords label_desc", "classification", "sentence", "label"),
        ("headline body label id", "classification", "headline body", "label"),
        ("prompt completion", "generation", "prompt", "completion"),
        ("instruction input output", "generation", "instruction input", "output"),
        ("instruction output", "generation", "instruction", "output"),
        ("source reply", "generation", "source", "reply"),
        ("source target", "generation", "source", "target"),
        ("question answer", "generation", "question", "answer"),
        ("document summary", "generation", "document", "summary"),
        ("mr ref", "generation", "mr", "ref"),
    ],
)
def test_known_columns(columns: str, kind: str, inputs: str, target: str) -> None:
    rows = read([{name: f"{name} {number} words enough" for name in columns.split()} for number in range(8)]).rows
    layout = recognise(columns.split(), rows)
    assert (layout.kind, layout.inputs, layout.target) == (kind, tuple(inputs.split()), target)
    assert layout.description == f"{' + '.join(inputs.split())} -> {target} ({kind})"


def test_the_input_of_alpaca_may_be_empty() -> None:
    assert recognise(["instruction", "input", "output"], []).optional == ("input",)


def test_columns_named_by_the_user() -> None:
    rows = [{"a": f"text {number}", "b": str(number % 2), "c": f"an answer of words {number}"} for number in range(40)]
    table = read(rows, inputs=["a"], target="b")
    assert (table.layout.kind, table.layout.inputs, table.layout.target) == ("classification", ("a",), "b")
    assert read(rows, inputs=["a"], target="c").layout.kind == "generation"
    assert read(rows, target="b").layout.inputs == ("a", "c")
    with pytest.raises(DataError, match="no column 'x'"):
        read(rows, inputs=["x"], target="b")
    with pytest.raises(DataError, match="both input and target"):
        read(rows, inputs=["b"], target="b")


def test_unknown_columns_are_listed_with_what_to_do() -> None:
    with pytest.raises(DataError, match="inputs") as caught:
        read([{"choices": ["a"], "answers": ["O"]}])
    assert caught.value.where == "list"
    assert caught.value.received == "'choices', 'answers'"


def test_rows_without_a_target_can_be_read_to_predict_on() -> None:
    layout = read([{"text": "a"}], labelled=False).layout
    assert (layout.inputs, layout.target) == (("text",), "")
    with pytest.raises(DataError):
        read([{"text": 1}])


def test_source_and_target_with_few_classes_is_classification() -> None:
    rows = [{"input": f"text number {number}", "target": "ab"[number % 2]} for number in range(20)]
    assert read(rows).layout.kind == "classification"


def test_aligned_gives_another_table_the_same_names() -> None:
    train, dev = read([{"mr": "a", "ref": "b"}]), read([{"mr": "a", "refs": ["b", "c"]}])
    aligned = dev.aligned(train.layout)
    assert aligned.rows[0].fields == {"mr": "a", "ref": ["b", "c"]}
    assert aligned.rows[0].id == dev.rows[0].id
    assert aligned.layout == train.layout
    assert train.aligned(train.layout) is train
    other = read([{"sentence": "a", "label": "b"}]).aligned(read([{"text": "a", "label": "b"}]).layout)
    assert other.columns == ("text", "label")


def test_full_width_commas_in_a_header_are_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("评论，标签\n好，好评\n", encoding="utf-8")
    with pytest.raises(DataError, match="full-width commas"):
        read(path)
