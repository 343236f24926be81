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
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.translator import Translator
from foreword.messages import said_in
from foreword.runs.train.run_verdict import nothing_learned, skew, useless


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
    assert english == [
        "Nothing useful was learned: the model gives the same answer to every dev row.",
        "Beside the prompt alone: the foreword is better than the prompt: Accuracy +58.3 points (95% interval +19.1 to "
        "+81.5, paired, 24 rows).",
        "79% of the test rows are good; the foreword answers it to 24 of 24. Accuracy decides.",
        "There are only 24 test rows: one more or less right is 4.2 points.",
    ]
    assert chinese == [
        "没有学到有用的东西：模型对开发集每一行都给同一个答案。",
        "只与提示词相比：前言好于提示词：准确率 +58.3 个百分点（95% 区间 +19.1 到 +81.5，配对，24 行）。",
        "测试集中 79% 的行是 good；前言对 24 行中的 24 行这样回答。以准确率为准。",
        "测试集只有 24 行：多对或少对一行就是 4.2 个百分点。",
    ]
    assert english[0] in shown.out
    assert "the requirement was not met" in shown.err
    # What always saying the most frequent label reaches stands beside it wherever figures are shown.
    table = {line.split("  ")[0]: line.split() for line in shown.out.splitlines()}
    assert table[""][-2:] == ["always", "good"]
    assert table["Accuracy (%)"][-1] == "79.2"
    assert "| always good | 79.2 | 44.2 | 24 |" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "always good" in page
    assert '<div class="card bad">' in page


def test_a_model_hardly_better_than_the_majority_learned_nothing() -> None:
    """It says the frequent label to 79 of 80 rows, and the rare one to a row that has the frequent one."""
    golds = ["good"] * 63 + ["bad"] * 17
    answers = [Prediction(f"r{i}", "", "bad" if i == 0 else "good", gold) for i, gold in enumerate(golds)]
    reason = useless(answers, "classification", "accuracy")
    assert reason is not None
    (line,) = nothing_learned(reason).lines
    assert line == (
        "Nothing useful was learned: the foreword is not better than always answering good: Accuracy 77.5 against 78.8 "
        "(95% interval -6.8 to +3.4, paired, 80 rows)."
    )
    assert line.render("zh") == (
        "没有学到有用的东西：前言并不比总答 good 更好：准确率 77.5，后者 78.8（95% 区间 -6.8 到 +3.4，配对，80 行）。"
    )
    assert [line.render("zh") for line in skew(answers, "accuracy")] == [
        "测试集中 79% 的行是 good；前言对 80 行中的 79 行这样回答。以准确率为准。"
    ]


def test_a_label_that_dev_lacks_is_told_with_the_figure_without_it(
    llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreword.training.events.Score.above", lambda self, other: True)

    def label(i: int) -> str:
        return "good" if i % 2 else "bad"

    test = [*rows(30, label, start=100), *rows(6, lambda _: "mixed", start=200)]
    learned = [*rows(40, label), *rows(4, lambda _: "mixed", start=300), *rows(4, lambda _: "fair", start=320)]
    train(
        learned, dev=rows(20, label, start=400), test=test, base=llama, output_dir=tmp_path / "run", method="full",
        max_steps=6, learning_rate=0.01,
    )  # fmt: skip
    _, english, chinese = told(tmp_path / "run")
    lacks = "No dev row has the label mixed, so nothing was chosen for it. Without its rows the foreword "
    (line,) = [line for line in english if line.startswith(lacks)]
    assert line.endswith(", paired, 30 rows).")
    assert any(line.startswith("开发集没有标签为 mixed 的行，所以没有照顾到它。去掉这些行后，") for line in chinese)
    assert "No test row has the label fair: no figure here says anything of it." in english
    assert "测试集没有标签为 fair 的行：这里没有任何数字说到它。" in chinese


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
    assert english == [
        "The foreword is better than the prompt: Exact match +100.0 points (95% interval +51.5 to +100.0, paired, 12 "
        "rows).",
        "That was shown of this foreword, on rows like these: another training of the same method may come out "
        "otherwise.",
        "There are only 12 test rows: one more or less right is 8.3 points.",
    ]
    assert chinese == [
        "前言好于提示词：完全匹配 +100.0 个百分点（95% 区间 +51.5 到 +100.0，配对，12 行）。",
        "这说的是这一个前言、这样的数据：用同一方法再训练一次，结果可能不同。",
        "测试集只有 12 行：多对或少对一行就是 8.3 个百分点。",
    ]


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
    # Both answer every row alike.
    assert english[-1] == (
        "4 of 40 test rows nearly repeat a row that was learned from. Without them the foreword cannot be told from "
        "the prompt: Accuracy +0.0 points (95% interval -41.0 to +41.0, paired, 36 rows)."
    )
    assert chinese[-1] == (
        "40 行测试数据中有 4 行几乎重复了训练过的行。去掉它们后，分辨不出前言与提示词：准确率 +0.0 个百分点"
        "（95% 区间 -41.0 到 +41.0，配对，36 行）。"
    )
    assert "The 40 test rows make 10 groups of rows that belong together; intervals draw whole groups." in english
    assert "40 行测试数据构成 10 组彼此相关的行；区间按整组抽样。" in chinese
