"""The rows page: filters, search, mending an answer; a long file is never read whole for a page of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreword.studio import mended_rows
from foreword.studio.row_index import own_text, probabilities, row_index
from foreword.studio.run_folders import RunFolder
from tests.studio.conftest import Browser


def prediction(number: int, output: str, gold: str, sure: float) -> str:
    other = {"yes": "no", "no": "yes"}[output]
    scores = {output: sure, other: 0.0}
    return json.dumps({
        "id": f"r{number}", "input": f"Text: row {number} <b>\nLabel:", "output": output, "gold": gold,
        "score": sure, "tokens": 5, "ms": 1.0, "scores": scores,
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """4 rows: won, lost, right with both, wrong with both."""
    cases = [("no", "yes", "yes", 3.0), ("yes", "no", "yes", 2.0), ("yes", "yes", "yes", 1.0), ("no", "no", "yes", 0.1)]
    path = tmp_path / "predictions"
    path.mkdir()
    for name, column in (("prompt", 0), ("foreword", 1)):
        lines = [prediction(i, str(case[column]), str(case[2]), float(case[3])) for i, case in enumerate(cases)]
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_filters_search_and_labels_choose_rows(folder: Path) -> None:
    index = row_index(folder)
    assert index is not None
    assert index.chosen("wrong", "", "") == [1, 3]
    assert index.chosen("changed", "", "") == [0, 1]
    assert (index.chosen("won", "", ""), index.chosen("lost", "", "")) == ([0], [1])
    assert index.chosen("unsure", "", "") == [3, 2, 1, 0]
    assert index.chosen("", "", "ROW 2") == [2]
    assert index.chosen("", "yes", "row 0") == [0]
    assert index.counts()["wrong"] == 2
    row = index.row(1)
    assert (row.ident, row.answer, row.prompt_answer, row.right, row.prompt_right) == ("r1", "no", "yes", False, True)
    assert row.sure == pytest.approx(0.8808, abs=1e-4)


def test_a_page_of_many_rows_reads_only_its_own(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    lines = [prediction(i, "yes", "yes" if i % 2 else "no", 1.0) for i in range(2000)]
    path = tmp_path / "predictions" / "foreword.jsonl"
    path.write_text("\n".join(lines) + "\n")
    index = row_index(tmp_path)
    assert index is not None
    content = bytearray(path.read_bytes())
    start = index.foreword_at[1000]
    content[:start] = b"x" * start  # what stands before the page is not looked at again
    with path.open("r+b") as file:
        file.write(content)
    assert index.row(1001).ident == "r1001"
    assert len(index.chosen("wrong", "", "")) == 1000


def test_probabilities_are_of_labels_only() -> None:
    assert probabilities({"scores": {"a": 0.0, "b": 0.0, "gold_nll": 3.0}}) == {"a": 0.5, "b": 0.5}
    assert probabilities({"scores": {"gold_nll": 3.0}}) == {}


def test_a_rows_own_text_is_shown_without_the_template() -> None:
    assert own_text("Text: fine: it is.\nLabel:", "Text: {{ text }}\nLabel:") == "fine: it is."
    assert own_text("a b", "{{ a }} {{ b }}") == "a b"
    assert own_text("plain", "{{ text }}") == "plain"


def test_an_answer_is_mended_where_it_stands_and_can_be_taken_back(browser: Browser, run: Path) -> None:
    text = browser.get("/runs/first/rows").text
    assert "won by the foreword" in text
    index = row_index(run / "run")
    assert index is not None
    row = index.row(0)
    other = {"yes": "no", "no": "yes"}[row.gold]
    answer = browser.post("/runs/first/rows", {"id": row.ident, "gold": other})
    assert answer.headers["HX-Trigger"] == "corrected"
    assert "it was" in answer.text
    assert "1 corrected" in browser.get("/runs/first/corrections").text
    assert mended_rows.pending(RunFolder("first", run))[row.ident]["gold"] == other
    assert browser.post("/runs/first/rows", {"id": row.ident, "gold": "maybe"}).status_code == 422
    assert browser.post("/runs/first/rows", {"id": "../x", "gold": other}).status_code == 404
    browser.post("/runs/first/rows", {"id": row.ident, "gold": row.gold})
    assert mended_rows.pending(RunFolder("first", run)) == {}
    assert browser.post("/runs/first/corrections").status_code == 422
    assert browser.post("/runs/first/again").status_code == 422


def test_what_was_tried_can_become_a_training_row(browser: Browser, run: Path) -> None:
    assert browser.post("/runs/first/trials", {"field-text": "an x", "gold": "yes"}).status_code == 200
    (record,) = mended_rows.pending(RunFolder("first", run)).values()
    assert (record["input"], record["gold"]) == ({"text": "an x"}, "yes")
    assert browser.post("/runs/first/trials", {"field-text": "an x"}).status_code == 422


def test_pages_of_a_run_that_is_not_served_say_so(browser: Browser, run: Path) -> None:
    assert "Not served" in browser.get("/runs/first/try").text
    answer = browser.post("/runs/first/answers", {"field-text": "x"}, headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert "the server does not answer" in answer.text
    assert answer.headers["HX-Retarget"] == "#notice"
    assert "PEFT" in browser.get("/runs/first/export").text
    assert browser.get("/runs/first/exports/peft.zip").status_code == 404
    assert browser.post("/runs/first/export", {"format": "../x"}).status_code == 422
