"""Files as people have them: from spreadsheets, labelling tools, data set libraries and chat logs."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from foreword.data.quality.check import check_tables
from foreword.data.readers import registry
from foreword.data.readers.read import Table, read, read_splits
from foreword.data.row import Raw
from foreword.data.task.infer import make_task
from foreword.data.task.task import METRIC_NAMES
from foreword.errors import DataError, VerbalizerError

ROWS = [{"text": "a fine one", "label": "pos"}, {"text": "a bad one", "label": "neg"}]


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def cells(table: Table, name: str) -> list[object]:
    return [row.fields.get(name) for row in table.rows]


def kinds(table: Table) -> list[str]:
    return [problem.kind for problem in check_tables({"train": table}, make_task(table)).problems]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_excels_hint_names_the_delimiter(tmp_path: Path, first: str) -> None:
    table = read(write(tmp_path, "a.csv", f"{first}\r\ntext;label\r\nlove it, really;pos\r\nno, sorry;neg\r\n"))
    assert cells(table, "text") == ["love it, really", "no, sorry"]
    assert [row.source.line for row in table.rows] == [3, 4]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a.csv", "a"])
@pytest.mark.parametrize(
    "document",
    [json.dumps(ROWS), json.dumps(ROWS, indent=1), "\n".join(map(json.dumps, ROWS)), json.dumps({"data": ROWS}),
     json.dumps({"version": 1, "rows": ROWS}), json.dumps({k: [row[k] for row in ROWS] for k in ROWS[0]}),
     json.dumps({k: {str(i): row[k] for i, row in enumerate(ROWS)} for k in ROWS[0]}),
     json.dumps({"columns": ["text", "label"], "index": [0, 1], "data": [list(row.values()) for row in ROWS]})],
)  # fmt: skip
def test_json_is_told_by_its_content(tmp_path: Path, name: str, document: str) -> None:
    assert cells(read(write(tmp_path, name, document)), "label") == ["pos", "neg"]


def test_a_file_may_hold_its_splits(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps({"train": ROWS, "validation": ROWS[:1]}))
    assert {name: len(table) for name, table in read_splits(path).items()} == {"train": 2, "dev": 1}
    with pytest.raises(DataError, match="several splits"):
        read(path)
    assert list(read_splits({"train": ROWS, "test": ROWS})) == ["train", "test"]


def test_folders_of_parts_and_of_saved_data_sets(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features)
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "two"))
    assert cells(read(tmp_path / "one"), "label") == ["yes", None]
    assert cells(read(tmp_path / "one" / "data-00000-of-00001.arrow"), "label") == ["yes", None]
    assert sorted(read_splits(tmp_path / "two")) == ["test", "train"]
    for number, row in enumerate(ROWS):
        write(tmp_path, f"parts/part-{number}.jsonl", json.dumps(row))
    write(tmp_path, "parts/README.txt", "about")
    table = read(tmp_path / "parts")
    assert [Path(row.source.file).name for row in table.rows] == ["part-0.jsonl", "part-1.jsonl"]
    assert len({row.id for row in read([ROWS[0], ROWS[0]]).rows}) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data files"):
        read(tmp_path / "empty")


def test_a_workbook_is_read_and_its_other_sheets_are_named(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "label", None])
    book.active.append(["fine", 1])
    book.active.append(["bad", 0.0])
    book.create_sheet("notes").append(["by hand"])
    book.save(tmp_path / "a.xlsx")
    table = read(tmp_path / "a.xlsx")
    assert cells(table, "text") == ["fine", "bad"]
    assert sorted(make_task(table).labels) == ["0", "1"]
    assert "'notes'" in table.problems[0].message


def test_another_package_adds_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = registry.Reader("lines", (".lines",), lambda c: Raw(("text",), [({"text": c.text}, 1)]))
    entry = EntryPoint("lines", "made:up", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: added)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert cells(read(write(tmp_path, "a.lines", "hello"), labelled=False), "text") == ["hello"]


@pytest.mark.parametrize(
    ("source", "message"),
    [("https://example.org/a.csv", "address"), ("hf://datasets/a", "address"), (42, "cannot be read as rows"),
     ({"text": ["a"], "label": ["x", "y"]}, "dictionary")],
)  # fmt: skip
def test_what_is_no_file_is_told_as_what_it_is(source: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(source)


def test_a_link_to_nothing_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="leads to nothing"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    ["utterance\tclass_id\nwhere is it\t1\nmy money\t2\n", "Satz\tZiel\nwo ist es\tx\n"],
)  # fmt: skip
def test_a_header_in_other_words_is_no_dialogue(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="not recognised"):
        read(write(tmp_path, "a.tsv", content))


def test_the_first_failure_does_not_hide_the_cause(tmp_path: Path) -> None:
    good = '{"text":"a fine one","label":"pos"}\n'
    path = write(tmp_path, "a.jsonl", good * 2 + '{"text":"the "dull" one","label":"neg"}\n{"text":"cut off he')
    with pytest.raises(DataError, match="same label") as caught:
        make_task(read(path))
    assert f"{path}:3" in str(caught.value)
    assert f"{path}:4" in str(caught.value)


def test_a_cell_that_is_no_text_is_never_spelled() -> None:
    objects = [{"text": {"body": f"row {i}"}, "label": "ab"[i % 2]} for i in range(8)]
    with pytest.raises(DataError, match="'text' is an object") as caught:
        make_task(read(objects))
    assert "text['body']" in str(caught.value.hint)
    assert make_task(read(objects), template="{{ text['body'] }}").labels == ("a", "b")
    mixed = [*ROWS, {"text": ["a", "b"], "label": "pos"}, {"text": b"bytes", "label": "pos"}]
    assert [kind for kind in kinds(read(mixed)) if kind == "not_text"] == ["not_text", "not_text"]
    several = [*ROWS, {"text": "c", "label": ["pos", "neg"]}, {"text": "d", "label": {"name": "pos"}}]
    assert {"several_labels", "not_text"} <= set(kinds(read(several)))


def test_known_forms_are_flattened() -> None:
    table = read([{"translation": {"en": "a cat", "zh": "猫"}}])
    assert (table.layout.inputs, table.layout.target) == (("en",), "zh")
    squad = read([{"context": "It is red.", "question": "What?", "answers": {"text": ["red"], "answer_start": [6]}}])
    assert squad.rows[0].fields["answer"] == ["red"]


def test_two_columns_of_one_name_are_refused_in_memory_too() -> None:
    import pandas

    frame = pandas.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"])
    with pytest.raises(DataError, match="same name"):
        read(frame)
    with pytest.raises(DataError, match="same name"):
        read([{"text": "a", " text": "b", "label": "x"}])


def test_a_column_that_says_the_label_is_no_input() -> None:
    rows = [{"body": f"ticket {i}", "label": i % 2, "label_text": ["ship", "refund"][i % 2]} for i in range(40)]
    table = read(rows)
    assert table.layout.inputs == ("body",)
    assert any("label_text (it says the label again)" in note for note in check_tables({"train": table}, None).notes)
    named = read(rows, inputs=["body", "label_text"])
    assert "leak" in kinds(named)


def test_labels_are_one_where_people_mean_one(tmp_path: Path) -> None:
    lines = "".join(f"row {i},{['True', 'False'][i % 2]}\n" for i in range(8))
    train = read(write(tmp_path, "a.csv", "text,label\n" + lines))
    test = read([{"text": f"other {i}", "label": i % 2 == 0} for i in range(4)])
    assert make_task(train).labels == ("false", "true")
    assert not check_tables({"train": train, "test": test}, make_task(train)).refuses
    assert make_task(train, labels={"True": "yes", "False": "no"}).verbalizer == {"true": " yes", "false": " no"}
    ones = read([{"text": f"row {i}", "label": f"{i % 2}.0"} for i in range(8)])
    assert make_task(ones).labels == ("0", "1")


def test_labels_that_look_alike_are_named() -> None:
    rows = [{"text": f"row {i}", "label": ["positive", "negative"][i % 2]} for i in range(40)]
    table = read([*rows, {"text": "slip", "label": "postive"}, {"text": "case", "label": "Negative"}])
    found = [p.message for p in check_tables({"train": table}, None).problems if p.kind == "similar_labels"]
    assert len(found) == 2
    with pytest.raises(VerbalizerError, match="'negtive' is in no row") as caught:
        make_task(read(rows), labels="positive,negtive")
    assert "did you mean 'negative'" in str(caught.value)


def test_numbers_to_predict_are_told_as_that() -> None:
    with pytest.raises(DataError, match="does not look like labels") as caught:
        make_task(read([{"text": f"row {i}", "label": i * 0.37} for i in range(60)]))
    assert "classes" in str(caught.value.hint)


def test_the_kind_of_task_is_the_users() -> None:
    rows = [{"question": f"is {i} even", "passage": f"the number {i}", "answer": i % 2 == 0} for i in range(12)]
    assert read(rows).layout.kind == "classification"
    assert read(rows).layout.inputs == ("passage", "question")
    pairs = [{"prompt": f"ticket {i}", "completion": ["ship", "refund"][i % 2]} for i in range(12)]
    assert read(pairs).layout.kind == "generation"
    assert make_task(read(pairs, kind="classification")).labels == ("refund", "ship")
    written = read([{"text": f"row {i}", "label": f"a summary {i}"} for i in range(9)], kind="generation")
    assert make_task(written).metric in METRIC_NAMES["generation"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("<!DOCTYPE html><html>", "web page"), ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS")],
)
def test_a_download_that_went_wrong_is_told_as_that(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, "a.csv", content))
