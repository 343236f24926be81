"""The report: one content in three forms, safe against what rows contain."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report import charts, plane_charts
from foreword.evaluation.report.chinese import chinese
from foreword.evaluation.report.rows_to_read import rows_to_read
from foreword.evaluation.report.summary import compare, evaluate
from foreword.evaluation.report.write_report import render_html, render_markdown, write_report
from foreword.evaluation.statistics.verdict import beside, compare_family, sentences

HOSTILE = '<script>alert("x")</script> | `a` \n| b'
VOID = {"meta", "input", "line", "circle", "polyline", "polygon", "br"}


class Balance(HTMLParser):
    """Checks that every tag is closed in order, and keeps addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def predictions(wrong_every: int) -> list[Prediction]:
    golds = ["good", "bad", "mixed"]
    return [
        Prediction(f"r{n}", "text", golds[(n + (n % wrong_every == 0)) % 3], golds[n % 3], -0.5, 4, 2.0)
        for n in range(60)
    ]


def full_report() -> dict[str, object]:
    good, bad = predictions(7), predictions(3)
    labels = ("good", "bad", "mixed")
    return {
        "title": "Reviews",
        "verdict": "The prefix beats the prompt.",
        "created": "2026-01-01",
        "warnings": [HOSTILE],
        "systems": {
            "prompt": evaluate(bad, "classification", labels=labels),
            "foreword": evaluate(good, "classification", labels=labels),
        },
        "difference": compare(good, bad, "accuracy").to_json(),
        "base": {"id": "some/base", "fingerprint": {"config": "ab" * 32}},
        "method": "prefix",
        "settings": {"learning_rate": 0.02, "sweep": [0.005, 0.02], "output": None},
        "data": {"train": {"rows": 100, "file": "训练.csv", "ids": ["a", "b"]}, "test": {"rows": 60}},
        "training": {
            "metric": "accuracy",
            "steps": [{"step": n, "loss": 2 / (n + 1)} for n in range(50)] + [{"step": 50, "loss": math.nan}],
            "evaluations": [{"step": 10, "value": 0.5}, {"step": 20, "value": 0.7}],
            "sweep": [{"learning_rate": 0.005, "value": 0.6}, {"learning_rate": 0.02, "value": 0.7, "best": True}],
            "seconds": 12.5,
        },
        "rows": [{"id": "r1", "input": HOSTILE, "gold": "good", "outputs": {"prompt": "bad", "foreword": "good"}}],
        "file": {"path": "model.foreword", "bytes": 12345},
        "versions": {"foreword": "0.1"},
    }


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = render_html(full_report())
    parsed = Balance()
    parsed.feed(page)
    assert not parsed.open
    assert parsed.addresses == []
    assert "@import" not in page
    assert "url(" not in page
    assert "script" not in parsed.tags
    assert "&lt;script&gt;" in page
    assert parsed.tags.count("svg") == 3
    assert 'name="viewport"' in page
    for text in (
        "The prefix beats the prompt.",
        "训练.csv",
        "foreword minus prompt, in Accuracy",
        "some/base",
        "gold \\ answer",
    ):
        assert text in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.find(".//{*}title") is not None
        assert "nan" not in drawing


def test_markdown_has_the_same_content_and_no_loose_markup() -> None:
    text = render_markdown(full_report())
    assert text.startswith("# Reviews\n\n**The prefix beats the prompt.**\n")
    assert "\\<script\\>" in text
    assert not re.search(r"(?<!\\)<", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert any("Accuracy" in line for line in tables)
    assert "## Classes: foreword" in text
    assert "fingerprint.config" in text
    assert "2" in text


@pytest.mark.parametrize("key", [None, *full_report()])
def test_every_part_may_be_absent(key: str | None) -> None:
    report = {name: value for name, value in full_report().items() if name != key} if key else {}
    parsed = Balance()
    parsed.feed(render_html(report))
    assert not parsed.open
    assert render_markdown(report).startswith("# ")


def test_a_generation_report_has_no_classes() -> None:
    made = [Prediction(str(n), "", "the cat sat", "the cat sat down", references=()) for n in range(4)]
    text = render_markdown({"systems": {"foreword": evaluate(made, "generation")}})
    assert "ROUGE-L" in text
    assert "Classes" not in text
    assert "same answer to every row" in text


def test_all_forms_are_written_and_the_json_is_strict(tmp_path: Path) -> None:
    report = {**full_report(), "odd": {"value": math.inf, "half": "\ud83d", "pair": (1, 2)}}
    paths = write_report(tmp_path / "run", report)
    names = ["report.html", "report.json", "report.md", "report.zh-CN.md"]
    assert sorted(path.name for path in paths.values()) == names
    back = json.loads(paths["json"].read_text(encoding="utf-8"))
    assert back["odd"]["value"] is None
    assert back["odd"]["pair"] == [1, 2]
    assert back["training"]["steps"][50] == {"step": 50, "loss": None}
    # What is read back from the file draws the same page.
    assert render_html({k: v for k, v in back.items() if k != "odd"}) == render_html(full_report())


def test_charts_stand_degenerate_values() -> None:
    text = "{:.1f}".format
    for figures in (
        {"only": {"value": 0.5, "low": 0.5, "high": 0.5}},
        {"zero": {"value": 0.0, "low": None, "high": None}},
        {"none": {"value": math.nan, "low": None, "high": None}},
        {"big": {"value": 1e300, "low": 1e299, "high": math.inf}, "long " * 10: {"value": 1.0}},
    ):
        ElementTree.fromstring(charts.intervals("<Title>", figures, text))
    for points in ([(1, 2.0)], [(0, 0.0), (1, 0.0)], [(0, -1e-9), (10**6, 1e9), (2, math.nan)]):
        assert "nan" not in charts.curve("Loss", "step", points, text)


def comparison() -> dict[str, object]:
    """As ``foreword compare`` writes one: more systems than are shown at once, charts of its own."""
    figures = {name: evaluate(predictions(n), "classification") for n, name in enumerate(("a", "b", "c", "d"), 2)}
    points = [{"name": name, "x": x, "y": 0.5, "front": x == 0} for name, x in zip("abcd", (0, 2, 2, 900), strict=True)]
    law = [{"rows": n, "value": 0.5 + n / 1e4, "low": 0.4, "high": 0.9} for n in (25, 50, 100, 200)]
    pareto = {
        "kind": "pareto",
        "title": "Accuracy (%) by work",
        "metric": "accuracy",
        "axis": "GFLOP",
        "points": points,
    }
    band = {"kind": "band", "title": "Accuracy (%) by training rows", "metric": "accuracy", "axis": "training rows",
            "points": [{"rows": 25, "value": 0.5}], "expected": law}  # fmt: skip
    return {
        "title": "Comparison on tiny",
        "verdict": "Do not train: your prompt is as good "
        "(LoRA: +0.0 points; 95% interval -0.5 to +0.5, paired, 3 seeds).",
        "verdict_lines": ["P-tuning is 0.1 points less; the interval (-0.3 to +0.5) includes 0."],
        "systems": figures,
        "titles": {"a": "your prompt", "b": "LoRA", "c": "P-tuning"},
        "chosen_on_dev": {"prompt": "a", "trained": "b"},
        "tables": [
            {"title": "Costs", "chart": pareto, "head": ["", "decision"], "lines": [["LoRA", "better"]], "own": True},
            {"title": "Learning curve", "chart": band, "head": ["rows"], "lines": [["25"]]},
        ],
    }


def test_a_comparison_shows_the_two_that_matter_and_folds_the_rest() -> None:
    page = render_html(comparison())
    parsed = Balance()
    parsed.feed(page)
    assert not parsed.open
    assert parsed.tags.count("details") == 2
    assert page.index(">Classes: LoRA<") < page.index(">Classes: Your prompt<") < page.index("<details>")
    assert page.index(">Costs<") < page.index(">Classes: LoRA<")
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.findall(".//{*}circle")
        assert root.find("{*}desc") is not None
    # Dots that lie on each other share one mark.
    assert ">2, 3</text>" in page


def test_the_page_says_its_own_words_in_chinese_and_leaves_those_of_rows() -> None:
    page = render_html(comparison())
    for text in (
        "不必训练：你的提示词一样好（LoRA：+0.0 个百分点；95% 区间 -0.5 到 +0.5，配对，3 个种子）。",
        "P-tuning低 0.1 个百分点；区间（-0.3 到 +0.5）包含 0。",
        "学习曲线",
        "更好",
    ):
        assert f'lang="zh">{text}<' in page
    rows = [{"id": "1", "input": "Results", "gold": "better", "outputs": {"prompt": "yes", "foreword": "open"}}]
    page = render_html({"rows": rows})
    assert "<td>better</td>" in page
    assert "<td>open</td>" in page


def test_markdown_says_in_chinese_what_the_page_says() -> None:
    text = render_markdown(comparison(), "zh")
    assert "**不必训练：你的提示词一样好（LoRA：+0.0 个百分点；95% 区间 -0.5 到 +0.5，配对，3 个种子）。**" in text
    assert "## 学习曲线" in text
    lines = [["worse", "better"], ["about better", "better"]]
    report = {"title": "better", "warnings": ["Rings: the text prompt."],
              "tables": [{"title": "Rounds", "head": ["note", "value"], "lines": lines, "own": [0]}]}  # fmt: skip
    text = render_markdown(report, "zh")
    assert "> 警告：圆圈：文本提示词。" in text
    assert "| 更差 | better |" in text
    assert "| 改成更好 | better |" in text
    page = render_html(report)
    assert '<span lang="zh">更差</span></th><td>better</td>' in page
    assert "警告" not in render_markdown(report)


def test_rows_to_read_name_their_columns_where_a_phone_stacks_them() -> None:
    rows = [{"id": "1", "input": "word " * 30, "gold": "a", "outputs": {"prompt": "b"}}]
    page = render_html({"rows": rows})
    assert '<table class="stack">' in page
    name = '<span class="head"><span lang="en">input</span><span lang="zh">输入</span>: </span>'
    assert f'<td class="text">{name}word word' in page
    page = render_html({"rows": [{**rows[0], "input": "word"}]})
    assert "<td>word</td>" in page
    assert '"stack"' not in page


def test_quoted_words_of_the_user_stay_as_they_are() -> None:
    assert chinese("'better' became 'worse, open' (of your prompt)") == "'better' 换成 'worse, open'（基于 你的提示词）"
    assert chinese("better became worse") is None


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1, 0.3])
def test_every_verdict_has_chinese_words(seeds: int, shift: float) -> None:
    rng = np.random.default_rng(3)
    golds = ["x"] * 400
    names = {"a": "prefix tuning", "b": "your best prompt", "c": "LoRA"}
    for sign in (1, -1):
        right = {"a": 0.6 + sign * shift, "b": 0.6, "c": 0.5}
        runs = {
            name: [list(np.where(rng.random(400) < share, "x", "y")) for _ in range(seeds if name != "b" else 1)]
            for name, share in right.items()
        }
        found = compare_family(get_metric("accuracy"), runs, [("a", "b"), ("c", "b")], golds)
        for said in (*sentences(found[0], names), beside(found[1], names)):
            translated = chinese(said)
            assert translated is not None, said
            assert not re.search("tuning|interval|points|prompt", translated), translated


def test_names_of_dots_do_not_cover_each_other() -> None:
    points = [{"name": f"s{n}", "x": 1 + n % 4 * 0.05, "y": 0.5 + n * 0.004, "front": n == 3} for n in range(12)]
    drawn = ElementTree.fromstring(plane_charts.pareto("by work", "GFLOP", points, "{:.2f}".format))
    boxes = []
    for mark in drawn.findall(".//{*}text[@class='mark']"):
        x, y = float(mark.attrib["x"]), float(mark.attrib["y"])
        boxes.append((x, y - 10, x + charts.width(mark.text or ""), y + 2))
    for dot in drawn.findall(".//{*}circle"):
        x, y = float(dot.attrib["cx"]), float(dot.attrib["cy"])
        boxes.append((x - 4, y - 4, x + 4, y + 4))
    for one, other in combinations(boxes, 2):
        if one[2] - one[0] == other[2] - other[0] == 8:
            continue
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (one, other)


def test_rows_that_changed_sides_come_first_and_the_surest_mistakes_after_them() -> None:
    def row(name: str, output: str, sure: float) -> Prediction:
        return Prediction(name, "text", output, "x", sure)

    prompt = [row("won", "y", -1.0), row("lost", "x", -1.0), row("sure", "y", -1.0), row("less", "y", -1.0)]
    learned = [row("won", "x", -1.0), row("lost", "y", -1.0), row("sure", "z", -0.1), row("less", "z", -3.0)]
    found = rows_to_read({"prompt": prompt, "foreword": learned}, "accuracy")
    assert [(one["id"], one["why"]) for one in found] == [
        ("won", "won"), ("lost", "lost"), ("sure", "worst"), ("less", "worst")
    ]  # fmt: skip
    assert found[0]["outputs"] == {"prompt": "y", "foreword": "x"}
    text = render_markdown({"rows": found})
    assert "### Better with foreword than with prompt" in text
    assert rows_to_read({}, "accuracy") == []
    written = [Prediction("1", "", "the cat sat", "the cat sat"), Prediction("2", "", "dogs", "the cat sat")]
    assert [one["why"] for one in rows_to_read({"foreword": written}, "rouge_l")] == ["worst", "best"]
