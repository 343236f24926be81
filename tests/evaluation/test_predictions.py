"""The predictions file: written whole, read back equal, wrong lines named."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from foreword.errors import DataError
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.storage import write_atomically

ROWS = [
    Prediction("a1", "Text: 今天\u2028很好\nLabel:", "good", "bad", -0.25, 12, 3.5, {"good": -0.25, "bad": -1.5}),
    Prediction("a2", "", "", "gold", references=("gold", "golden")),
    Prediction("a3", "x\x0cy\x85", "half \ud83d", "", score=-math.inf),
]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "predictions.jsonl"
    write_jsonl(path, ROWS)
    back = read_jsonl(path)
    assert back[0] == ROWS[0]
    assert back[1].accepted == ("gold", "golden")
    assert math.isnan(back[1].score)
    assert back[2].output == ROWS[2].output
    assert back[2].accepted == ""
    assert len(back) == 3
    assert path.read_bytes().count(b"\n") == 3
    assert "今天" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["predictions.jsonl"]


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [Prediction("a", "i", "o", "g", score=math.nan, scores={"x": -math.inf})])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((tmp_path / "p.jsonl").read_text(), parse_constant=refuse)
    assert record["score"] is None
    assert record["scores"] == {"x": None}
    assert list(record) == ["id", "input", "output", "gold", "score", "tokens", "ms", "scores"]


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_jsonl(path, ROWS[:1])

    def lines() -> object:
        yield b"half"
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_atomically(path, lines())  # type: ignore[arg-type]
    assert read_jsonl(path) == ROWS[:1]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_the_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_jsonl(tmp_path / "p.jsonl", ROWS)
    assert (tmp_path / "p.jsonl").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a prediction"),
        ("[1]", "not a JSON object"),
        ('{"id": "a"}', "'input' is not a text"),
        ('{"id": "a", "input": "", "output": "", "gold": "", "score": "high"}', "'score' is not a number"),
        ('{"id": "a", "input": "", "output": "", "gold": "", "extra": 1}', "unknown field 'extra'"),
        ('{"id": "a", "input": "", "output": "", "gold": "", "references": "x"}', "'references'"),
        ('{"id": "a", "input": "", "output": "", "gold": "", "scores": [1]}', "'scores'"),
        ("[" * 100_000, "not a prediction"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps(ROWS[0].to_json())
    path.write_text(f"{good}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_jsonl(path)
    assert caught.value.where == f"{path}:3"


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_jsonl(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(DataError, match=r"b\.jsonl:1"):
        read_jsonl(tmp_path / "b.jsonl")
