"""Stories with a known end: what a run says of them, in both languages, word for word."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import train
from foreword.cli.main import main
from foreword.evaluation.report.translator import Translator
from foreword.messages import said_in


@pytest.fixture
def llama(base: Callable[[str], str]) -> str:
    return base("llama")


def lines_of(folder: Path, language: str) -> list[str]:
    """The verdict of a run's report.json, as it is read back."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    translator = Translator(report["messages"])
    return [said_in(translator.ours(line), language) for line in report["verdict_lines"]]


def told(folder: Path) -> tuple[str, list[str], list[str]]:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report["state"], lines_of(folder, "en"), lines_of(folder, "zh")


def rows(count: int, label: Any, start: int = 0) -> list[dict[str, str]]:
    texts = [" ".join("".join(random.Random(i).choices("abcdefgh", k=60))) for i in range(start, start + count)]
    return [{"text": text, "label": label(i)} for i, text in enumerate(texts, start)]


def test_a_model_that_says_the_majority_learned_nothing(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prompt answers the rare label; saying the frequent one always is far better than that, and nothing."""
    monkeypatch.setattr("foreword.training.events.Score.above", lambda self, other: True)
    skewed = rows(120, lambda i: "good" if i % 5 else "bad")
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in skewed))
    common = ["--metric", "accuracy", "--learning-rate", "3", "--set", "max_steps=12", "--set", "num_virtual_tokens=2"]
    asked = ["train", str(tmp_path / "d.jsonl"), "--base", llama, "--output-dir", str(tmp_path / "run"), *common]
    assert main([*asked, "--require", "learned"]) == 100
    shown = capsys.readouterr()
    state, english, chinese = told(tmp_path / "run")
    assert state == "nothing_learned"
    assert english[0].startswith("Nothing useful was learned: ")
    assert chinese[0].startswith("没有学到有用的东西：")
    assert english[0] in shown.out
    assert "the requirement was not met" in shown.err
    assert any("of the test rows are good; the foreword answers it to" in line for line in english)
    assert '<div class="card bad">' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_short_answers_that_are_all_right_are_better_and_not_the_same(llama: str, tmp_path: Path) -> None:
    data = [{"prompt": f"item {i} {'AB'[i % 2] * 6}", "completion": ["red", "blue"][i % 2]} for i in range(60)]
    found = train(
        data, base=llama, output_dir=tmp_path / "run", method="full", learning_rate=0.01, num_train_epochs=20,
        max_new_tokens=8, early_stopping_patience=0,
    )  # fmt: skip
    assert found.metric == "exact_match"
    assert found.systems["foreword"]["metrics"]["exact_match"]["value"] == 1.0
    state, english, chinese = told(tmp_path / "run")
    assert state == "better"
    assert english[0].startswith("The foreword is better than the prompt: Exact match +100.0 points (95% interval ")
    assert chinese[0].startswith("前言好于提示词：完全匹配 +100.0 个百分点（95% 区间 ")
    assert english[1] == (
        "That was shown of this foreword, on rows like these: another training of the same method may come out "
        "otherwise."
    )
    assert chinese[1] == "这说的是这一个前言、这样的数据：用同一方法再训练一次，结果可能不同。"
    assert not any("as good" in line or "cannot be told" in line for line in english)


def test_a_tie_on_dev_keeps_the_prompt(llama: str, tmp_path: Path) -> None:
    found = train(
        rows(60, lambda i: "good" if i % 2 else "bad"), base=llama, output_dir=tmp_path / "run", max_steps=1,
        num_virtual_tokens=2, learning_rate=1e-9,
    )  # fmt: skip
    assert found.outcome == "text"
    assert told(tmp_path / "run") == (
        "prompt_kept",
        ["Nothing learned beat the prompt on dev: the prompt itself was saved."],
        ["学到的都没有在开发集上胜过提示词：保存的是提示词本身。"],
    )


def test_rows_that_belong_together_and_rows_that_were_learned_are_told(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreword.training.events.Score.above", lambda self, other: True)

    def speaker(found: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**row, "speaker": f"s{place // 4}"} for place, row in enumerate(found)]

    def label(i: int) -> str:
        return "good" if i % 2 else "bad"

    learned = speaker(rows(60, label))
    # Four of the test rows are rows that were learned from, but for their last words.
    copies = [{**row, "text": row["text"] + " or so"} for row in rows(4, label)]
    test = speaker([*rows(36, label, start=100), *copies])
    train(
        learned, test=test, base=llama, output_dir=tmp_path / "run", max_steps=4, num_virtual_tokens=2,
        learning_rate=0.01, group="speaker", inputs=("text",),
    )  # fmt: skip
    _, english, chinese = told(tmp_path / "run")
    assert "The 40 test rows make 10 groups of rows that belong together; intervals draw whole groups." in english
    assert "40 行测试数据构成 10 组彼此相关的行；区间按整组抽样。" in chinese
    without = "4 of 40 test rows nearly repeat a row that was learned from. Without them the foreword "
    assert any(line.startswith(without) for line in english)
    assert any(line.startswith("40 行测试数据中有 4 行几乎重复了训练过的行。去掉它们后，") for line in chinese)
