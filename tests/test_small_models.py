"""`bench/small_models.py`: how its rows are divided, and all of it with bases of a few thousand values."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import small_bases
import small_models

from foreword.core.base.load import load_base
from foreword.core.inject.sites import find_sites
from foreword.progress import Progress
from foreword.settings.schema import BaseSettings

PARTS = ("base", "base_dev", "train", "dev", "test")
TINY: dict[type, Any] = {
    small_bases.EncoderDecoder: small_bases.EncoderDecoder(
        vocab_size=300, width=16, heads=2, layers=1, inner=16, epochs=1, batch_size=16
    ),
    small_bases.Recurrent: small_bases.Recurrent(
        "gru", BaseSettings(hidden_size=8, num_hidden_layers=1, vocab_size=300, max_length=24, num_train_epochs=1.0)
    ),
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two folders with made-up rows of the same form."""
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(small_models, "_READ", 16)
    monkeypatch.setattr(small_models, "_KEPT", 24)

    def reviews(name: str) -> list[dict[str, Any]]:
        made = ((n, ("negative", "positive")[n % 2], ("脏", "干净")[n % 2]) for n in range(48))
        return [{"text": f"{name}酒店房间{n}很{word}。", "label": label} for n, label, word in made]

    def pairs(name: str) -> list[dict[str, Any]]:
        return [
            {"en": f"In {name} I saw {n} birds.", "zh": [(f"我看見{n}隻鳥。", f"我看见{n}只鸟。")[n // 2 % 2]]}
            for n in range(64)
        ]

    for folder, rows in (("zh_chnsenticorp_htl", reviews), ("translation_en_zh_tatoeba", pairs)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in ("train", "dev", "test"):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name))
            (tmp_path / "data" / folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return tmp_path / "data"


def tiny(name: str, monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    spec = small_models.SPECS[name]
    chosen = {method: spec.methods[method]._replace(rates=(1e-2,)) for method in methods}
    small = replace(spec, base=TINY[type(spec.base)], methods=chosen, limits=dict.fromkeys(PARTS, 12), epochs=1)
    monkeypatch.setitem(small_models.SPECS, name, small)


def test_scripts_are_told_apart() -> None:
    assert small_models.traditional("我們看見鳥。")
    assert not small_models.simplified("我們看見鳥。")
    assert small_models.simplified("我们看见鸟。")
    assert not small_models.traditional("我们看见鸟。")
    both = "我看他。"
    assert not small_models.traditional(both)
    assert not small_models.simplified(both)


def test_a_headline_ends_where_its_first_word_comes_again() -> None:
    body = "hadson corp said it has signed a definitive agreement to acquire seaxe energy for cash and shares"
    found = small_models.headline(f"hadson hads to acquire seaxe {body}")
    assert found == {"headline": "hadson hads to acquire seaxe", "story": body}
    assert small_models.headline("wallenbergs fight bid for match " + body) is None
    assert small_models.headline("hadson to buy hadson corp said so") is None


def test_no_row_is_in_two_parts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_models.SPECS["translation"]
    parts = small_models.parts_of(spec, data)
    assert set(parts) == set(PARTS)
    assert not {row["en"] for row in parts["base"]} & {row["en"] for row in parts["train"]}
    assert all(small_models.traditional(row["zh"]) for name in ("train", "dev", "test") for row in parts[name])
    assert parts == small_models.parts_of(spec, data)


@pytest.mark.parametrize(("name", "method"), [("translation", "prefix"), ("zh_hotel_head", "head alone")])
def test_a_base_is_trained_and_taught(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    tiny(name, monkeypatch, method)
    asked = argparse.Namespace(data=data, output=tmp_path / "runs", seed=1, minutes=1.0, method=None, share=0.9)
    with Progress() as progress:
        found = small_models.run(name, asked, progress)
        again = small_models.make_base(
            small_models.SPECS[name].base,
            [],
            [],
            None,  # type: ignore[arg-type]
            tmp_path / "runs" / name / "base",
            1,
            progress,  # type: ignore[arg-type]
        )
    assert again == found["base"]
    assert found["methods"][method]["rows"]["test"] == 11
    assert found["base"]["steps"] >= 1
    assert method in small_models.render([found], ["x"])
    json.dumps(found)
    model = load_base(tmp_path / "runs" / name / "base").model
    if name == "translation":
        assert {site.partition(".")[0] for site in find_sites(model).sites} == {"encoder", "decoder"}
        assert found["methods"][method]["learned"].keys() >= {"bleu", "chrf", "wanted"}


def test_the_time_at_hand_ends_the_training(data: Path, tmp_path: Path) -> None:
    spec = small_models.SPECS["translation"]
    parts = small_models.parts_of(replace(spec, limits=dict.fromkeys(PARTS, 12)), data)
    options = small_models.TaskOptions(**spec.task)
    kind = replace(TINY[small_bases.EncoderDecoder], epochs=1000)
    with Progress() as progress:
        facts = small_bases.make_base(kind, parts["base"], parts["base_dev"], options, tmp_path / "b", 0.005, progress)
    assert 1 <= facts["steps"] < 1000
    assert not facts["whole"]
