"""`bench/choices.py` and `bench/transfer.py`: which rows they draw, and a whole table on a tiny base."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import choices
import transfer

from foreword.core.base.load import base_of
from foreword.evaluation.predictions import read_jsonl
from foreword.progress import Progress
from foreword.testing.method_contracts import byte_tokenizer, tiny


def rows(name: str, count: int = 60) -> list[dict[str, Any]]:
    return [{"text": f"{name} {n} is {n % 7}", "label": ("negative", "positive")[n % 2]} for n in range(count)]


@pytest.fixture
def splits() -> choices.Splits:
    return {name: rows(name) for name in ("train", "dev", "test")}


def test_a_seed_draws_its_own_training_rows(splits: choices.Splits) -> None:
    draw = choices.few(12, 8, 20)
    first, second = draw(splits, 1), draw(splits, 2)
    assert first["train"] != second["train"]
    assert first["dev"] == second["dev"]
    assert first["test"] == second["test"]
    assert [len(first[name]) for name in ("train", "dev", "test")] == [12, 8, 20]


def test_a_skewed_set_is_skewed_on_dev_and_not_on_test(splits: choices.Splits) -> None:
    drawn = choices.few(20, 10, 40, rare=4)(splits, 1)
    assert Counter(row["label"] for row in drawn["train"]) == {"negative": 4, "positive": 16}
    assert Counter(row["label"] for row in drawn["dev"]) == {"negative": 2, "positive": 8}
    assert min(Counter(row["label"] for row in drawn["test"]).values()) > 10


def test_places_have_as_many_slots() -> None:
    for name, change in choices._places(12, "{{ text }}").items():
        template = change["task"]["template"]
        assert template.count("soft(12)") + 2 * template.count("soft(6)") // 2 in (1, 2), name
        assert template.replace("{{ soft(12) }}", "").replace("{{ soft(6) }}", "") == "{{ text }}"


def test_a_table_of_guidance_brought_in_gradually(
    splits: choices.Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = replace(choices.TABLES["gradual"], rows=choices.few(8, 6, 6), lines=choices._gradual("prefix"))
    settings = {"learning_rate": 1e-1, "max_steps": 2}
    task = {"guidance": "Now?", "template": "{{ text }}:"}
    monkeypatch.setitem(choices.TABLES, "gradual", replace(table, settings=settings, task=task))
    # A tiny random base gains nothing; what is learned is kept all the same.
    monkeypatch.setattr("foreword.training.loop.Score.above", lambda self, other: True)
    asked = argparse.Namespace(seeds=2, output=tmp_path, line=None)
    with Progress() as progress:
        found = choices.measure("gradual", splits, base_of(tiny("llama"), byte_tokenizer(), id="tiny"), asked, progress)
    assert set(found["lines"]) == {name + more for name in table.lines for more in ("", "; left away")}
    assert len(read_jsonl(tmp_path / "gradual" / "prefix-always-1" / "predictions" / "without.jsonl")) == 6
    assert "prefix, always" in choices.render([found])
    json.dumps(found)


def test_an_even_draw_takes_from_every_label() -> None:
    parts = transfer.drawn({"train": rows("train"), "test": rows("test")}, (8, 4, 6), 1)
    assert {name: Counter(row["label"] for row in found)["positive"] for name, found in parts.items()} == {
        "train": Counter(row["label"] for row in parts["train"])["positive"], "dev": 2, "test": 3,
    }  # fmt: skip
    assert not {row["text"] for row in parts["train"]} & {row["text"] for row in parts["dev"]}
