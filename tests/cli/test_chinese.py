"""The command line in Chinese: by FOREWORD_LANG, or by the locale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foreword.cli.commands import COMMANDS
from foreword.cli.main import main
from foreword.messages import Message, language_of, say, speaking
from foreword.messages.spoken import missing
from foreword.messages.width import columns
from tests.runs.conftest import save_tiny

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREWORD_LANG", "zh")
    missing.clear()


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_in_chinese_and_as_wide_as_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert not missing
    assert out.startswith("用法：foreword")
    text = out.partition("\n例:")[0]  # a command to copy stands on one line
    assert max(map(columns, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("trian", "foreword: 没有这个命令：trian\n  怎么办：是不是 train？见 foreword --help"),
        ("train --sed 3", "foreword: 没有这个选项：--sed\n  怎么办：是不是 --seed？见 foreword train --help"),
        ("train --seed", "foreword: --seed 需要一个值"),
        ("show", "foreword: 缺少 FILE"),
        ("train --weight-decay 1", "怎么办：它是一项设置：--set weight_decay=VALUE"),
        ("show no.foreword", "foreword: no.foreword: 打不开文件"),
        ("ls nowhere", "foreword: nowhere: 没有这个文件夹"),
        ("check none.csv", "foreword: none.csv: 数据文件不存在\n  怎么办：请检查路径和拼写"),
        ("train --resume nowhere", "foreword: nowhere: 没有可以继续的运行\n  应为：其文件夹"),
    ],
)
def test_errors_are_in_chinese(words: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) > 0
    assert problem in capsys.readouterr().err


def untranslated(text: str) -> list[str]:
    """Lines with English words and no Chinese."""
    return [line for line in text.splitlines() if re.search("[A-Za-z]{3}", line) and not CHINESE.search(line)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("base") / "tiny", "llama"))


def reviews(folder: Path, more: str = "") -> str:
    rows = [f"a {'fine' if i % 2 else 'dull'} film {i},{'good' if i % 2 else 'bad'}" for i in range(40)]
    file = folder / "reviews.csv"
    file.write_text("text,label\n" + "\n".join(rows) + "\n" + more)
    return str(file)


def test_a_check_is_in_chinese(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ",good\nthe same,good\nthe same,bad\na fine film 1,good\nx,godo\n"
    assert main(["check", reviews(tmp_path, bad)]) == 3
    out = capsys.readouterr().out
    assert "错误: 空字段: 1" in out
    assert "警告: 数据很少的标签: 1" in out
    assert "拒绝：3 个错误" in out
    assert [line for line in untranslated(out) if not line.startswith("       ")] == []


def test_a_run_its_file_and_its_answers_are_in_chinese(
    tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = reviews(tmp_path), tmp_path / "run"
    settings = ["--learning-rate", "0.02", "--set", "max_steps=2"]
    assert main(["train", data, "--base", base, "--output-dir", str(run), *settings]) == 0
    shown = capsys.readouterr()
    assert "载入模型 0/1" in shown.err
    assert "训练 2/2" in shown.err
    assert f"已保存 {run}" in shown.out
    assert untranslated(shown.out) == []
    for words in (["show"], ["evaluate", data], ["predict", data, "--output", str(tmp_path / "out.jsonl")]):
        assert main([words[0], str(run / "model.foreword"), *words[1:]]) == 0
    out = capsys.readouterr().out
    assert "样例行" in out
    assert "40 个预测" in out
    assert main(["predict", str(run / "model.foreword"), str(tmp_path / "none.csv")]) == 3
    assert "数据文件不存在" in capsys.readouterr().err


def test_what_machines_read_stays_english(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.csv"), "--json"]) == 3
    shown = capsys.readouterr()
    assert '"problem": "the data file does not exist"' in shown.out
    assert "数据文件不存在" in shown.err


def test_the_language_is_that_of_the_variable_then_of_the_locale() -> None:
    assert language_of({"FOREWORD_LANG": "zh", "LANG": "en_US.UTF-8"}) == "zh"
    assert language_of({"LC_ALL": "en_GB.UTF-8", "LANG": "zh_CN.UTF-8"}) == "en"
    assert language_of({"LANG": "zh_TW"}) == "zh"
    assert language_of({"LANG": "C.UTF-8"}) == language_of({}) == language_of({"FOREWORD_LANG": "xx"}) == "en"


def test_what_has_no_translation_is_said_in_english() -> None:
    with speaking("zh"):
        assert say(Message("nobody says {what}", what="this")) == "nobody says this"
        assert missing == {"nobody says {what}"}
