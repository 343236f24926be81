"""The demo's parts, and the whole of it on a tiny model; on the real one it is run by ``make demo``."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import demo
from demo_clock import Clock, Stage
from demo_stories import Sizes, choose, draw, even_counts

from foreword.data.row import Row, Source
from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction
from foreword.settings.schema import TrainSettings

WORDS = "bank oil ship wheat yen shares profit tariff port rates merger quarter crop dollar export barrel".split()


def story(dice: Random, words: int = 8) -> str:
    return " ".join(dice.choice(WORDS) + str(dice.randrange(100)) for _ in range(words))


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """R8 in small: eight topics, some stories too long, one in both files, one with two topics."""
    dice = Random(1)
    train = [(story(dice), label) for label in demo.TOPICS for _ in range(6)]
    test = [(story(dice), label) for label in demo.TOPICS for _ in range(3)]
    train += [(story(dice, 40), "earn"), (test[0][0], test[0][1]), (train[0][0], "trade")]
    return write(tmp_path / "all-train.csv", train), write(tmp_path / "all-test.csv", test)


def test_small_labels_give_all_and_the_others_alike() -> None:
    assert even_counts({"a": 2, "b": 50, "c": 9}, 20) == {"a": 2, "b": 9, "c": 9}
    assert even_counts({"a": 2, "b": 3}, 100) == {"a": 2, "b": 3}
    assert even_counts({"a": 9, "b": 9, "c": 9}, 10) == {"a": 4, "b": 3, "c": 3}


def test_a_seed_always_draws_the_same_rows_in_the_order_of_the_file() -> None:
    rows = [Row(str(n), {"text": "x", "label": "ab"[n % 2]}, Source("f", n)) for n in range(40)]
    first, again, other = draw(rows, 10, Random(1)), draw(rows, 10, Random(1)), draw(rows, 10, Random(2))
    assert first == again != other
    assert [int(row.id) for row in first] == sorted(int(row.id) for row in first)
    assert Counter(row.fields["label"] for row in first) == {"a": 5, "b": 5}


def test_the_choice_says_what_became_of_every_story(
    tmp_path: Path, sources: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = choose(sources, tmp_path, Sizes(train=24, dev=8, test=16, max_words=20), seed=1)
    found = {name: rows_of(path) for name, path in files.items()}
    assert {name: len(rows) for name, rows in found.items()} == {"train": 24, "dev": 8, "test": 16}
    texts = [row["text"] for rows in found.values() for row in rows]
    assert len(set(texts)) == len(texts)
    assert set(Counter(row["label"] for row in found["test"]).values()) == {2}
    said = capsys.readouterr().out
    # Both rows of the contradiction, and the story that is in the test file as well.
    assert "all-train.csv: 51 stories, of which 3 the check complains about (conflict 2, duplicate_across 1)" in said
    assert "1 too long, 15 not drawn, 32 used" in said
    assert "0 too long, 8 not drawn, 16 used" in said


def test_time_left_follows_the_pace_and_the_parts() -> None:
    first, second = Stage("a", 10.0), Stage("b", 100.0, {"x": 0.25, "y": 0.75})
    assert (second.share("x", 1, 2), second.share("y", 0, 9), second.share("y", 9, 9)) == (0.125, 0.25, 1.0)
    assert second.share("other", 1, 2) == 0.0
    clock = Clock((Stage("download", 0.0), first, second))
    assert clock.left(first, 0.0, 0.0) == 110
    clock.spent = {"download": 500.0, "a": 20.0}
    slow = clock.left(second, 0.0, 0.0)
    assert 100 < slow < 200
    assert clock.left(second, 0.5, 100.0) > slow / 2 > clock.left(second, 0.9, 180.0)


def test_an_unplanned_piece_takes_nothing_back_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, told = Stage("a", 100.0, {"train": 1.0}), []
    monkeypatch.setattr("demo_clock.Progress.__call__", lambda self, name, done, total, **more: told.append(more))
    with Clock((stage,)).during(stage) as progress:
        progress("train", 9, 10)
        progress("evaluate on dev", 0, 4)
    assert told[0] == told[1] != {"whole demo": "1m40s left"}


def test_answers_are_the_same_only_when_all_are() -> None:
    before = [Prediction(str(n), "in", "a", "a", scores={"a": -0.1, "b": -2.0}) for n in range(3)]
    assert demo.same_answers(before, list(before))
    assert not demo.same_answers(before, before[:2])
    assert not demo.same_answers(before, [])
    assert not demo.same_answers([], [])
    changed: list[dict[str, Any]] = [{"output": "b"}, {"id": "9"}, {"scores": {"a": -0.2, "b": -2.0}}, {"scores": {}}]
    for change in changed:
        assert not demo.same_answers(before, [*before[:2], replace(before[2], **change)])


def test_only_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    demo.claim(folder)
    (folder / "run").mkdir()
    (folder / "train.csv").touch()
    demo.claim(folder)
    assert list(folder.iterdir()) == []
    (folder / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="other things"):
        demo.claim(folder)
    assert (folder / "thesis.tex").exists()


def test_a_saved_prompt_differs_by_nothing() -> None:
    result: Any = SimpleNamespace(
        systems={"foreword": {"metrics": {"accuracy": {"value": 0.4}}}}, difference=None, metric="accuracy",
        rows={"test": 10}, file="f", bytes=5,
    )  # fmt: skip
    found = demo.summary(result, True, 1.23)
    assert (found["prompt"], found["foreword"], found["difference"], found["interval"]) == (0.4, 0.4, 0.0, [0.0, 0.0])


@pytest.mark.parametrize(("equal", "code"), [(True, 0), (False, 1)])
def test_the_last_line_is_json_and_the_exit_code_says_whether_answers_are_equal(
    equal: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "demo", lambda *_: {"reloaded_equal": equal})
    assert demo.main([]) == code
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"reloaded_equal": equal}


def test_an_error_is_told_and_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert demo.main(["--folder", str(tmp_path)]) == 2
    assert "other things" in capsys.readouterr().err


def test_the_whole_demo_on_a_tiny_model(
    tmp_path: Path, sources: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from foreword.testing.method_contracts import FAMILIES, byte_tokenizer

    base = tmp_path / "base"
    config = LlamaConfig(**{**FAMILIES["llama"].settings, "max_position_embeddings": 1024})
    LlamaForCausalLM(config).save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    sizes = Sizes(train=16, dev=8, test=16, max_words=20)
    settings = TrainSettings(sweep=(1e-2, 1e-1), max_steps=4, per_device_train_batch_size=4)
    found = demo.demo(str(base), sources, tmp_path / "demo", sizes, settings, 13)
    assert list(found) == [
        "prompt", "foreword", "difference", "interval", "rows", "file", "bytes", "reloaded_equal", "seconds",
    ]  # fmt: skip
    assert (found["reloaded_equal"], found["rows"]) == (True, 16)
    assert found["difference"] == pytest.approx(found["foreword"] - found["prompt"])
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert found["bytes"] == Path(found["file"]).stat().st_size
    said = capfd.readouterr()
    assert "16 of 16 answers are the same" in said.out
    assert "whole demo" in said.err
