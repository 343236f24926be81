"""Token classification end to end: read, train, evaluate, save, predict, verify."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api, evaluate, predict, train
from foreword.errors import SettingsError


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """An x begins a span; a y behind it goes on."""
    dice = random.Random(seed)
    made: list[dict[str, Any]] = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(5):
            words.append(dice.choice("abcd"))
            tags.append("O")
            if dice.random() < 0.3:
                words += ["x", "y"]
                tags += ["B-thing", "I-thing"]
        made.append({"tokens": words, "tags": tags})
    return made


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_spans_are_learned_and_the_file_gives_the_same_answers(
    base: Callable[[str], str], tmp_path: Path, family: str
) -> None:
    settings = {"learning_rate": 5e-2, "num_train_epochs": 8, "per_device_train_batch_size": 8, "num_virtual_tokens": 4}
    result = train(rows(64, 1), base=base(family), output_dir=tmp_path, test=rows(20, 2), skip_bad=True, **settings)
    figures = result.systems["foreword"]["metrics"]
    assert figures["span_f1"]["value"] > 0.9
    assert result.systems["foreword"]["report"]["classes"]["thing"]["support"] > 0
    assert api.verify(result.file).ok
    assert "tags O, B-thing, I-thing" in result.text
    saved = [json.loads(line) for line in (tmp_path / "predictions" / "foreword.jsonl").read_text().splitlines()]
    assert all(len(one["output"].split()) == len(one["input"].split()) for one in saved)
    again = evaluate(result.file, rows(20, 2))
    assert again["metrics"]["span_f1"]["value"] == figures["span_f1"]["value"]
    answer = predict(result.file, text="a b x y c")[0]
    assert (answer.input, answer.output) == ("a b x y c", "O O B-thing I-thing O")
    assert predict(result.file, [{"tokens": ["x", "y"]}])[0].output == "B-thing I-thing"


def test_words_that_were_cut_off_are_counted(base: Callable[[str], str], tmp_path: Path) -> None:
    settings = {"learning_rate": 5e-2, "max_steps": 1, "num_virtual_tokens": 2, "first_k": 12}
    result = train(rows(30, 1), base=base("bert"), output_dir=tmp_path, skip_bad=True, **settings)
    assert any("of test were cut off" in alarm for alarm in result.alarms)
    saved = [json.loads(line) for line in (tmp_path / "predictions" / "foreword.jsonl").read_text().splitlines()]
    assert all(len(one["output"].split()) == len(one["gold"].split()) for one in saved)
    assert api.verify(result.file).ok


def test_rows_whose_words_were_all_cut_off(base: Callable[[str], str], tmp_path: Path) -> None:
    settings = {"learning_rate": 5e-2, "max_steps": 2, "num_virtual_tokens": 2, "skip_bad": True}
    mixed = [{"tokens": [f"{i}" if i % 2 else "a" * (i + 9), "b"], "tags": ["B-thing", "O"]} for i in range(30)]
    short = {"first_k": 3, "per_device_train_batch_size": 1}
    assert train(mixed, base=base("bert"), output_dir=tmp_path / "some", **short, **settings).metric == "span_f1"
    with pytest.raises(SettingsError, match="nothing to tag"):
        long = [{**row, "tokens": [f"very{word}" for word in row["tokens"]]} for row in rows(30, 1)]
        train(long, base=base("bert"), output_dir=tmp_path / "none", first_k=3, **settings)


def test_bases_and_methods_that_cannot_tag_are_refused(base: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="encoder or a decoder"):
        train(rows(30, 1), base=base("t5"), output_dir=tmp_path, skip_bad=True)
    with pytest.raises(SettingsError, match="cannot train the head"):
        train(rows(30, 1), base=base("bert"), output_dir=tmp_path, method="text", skip_bad=True)
