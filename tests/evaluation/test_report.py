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

from foreword.errors import DataError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report import charts
from foreword.evaluation.report.html import html_of
from foreword.evaluation.report.report_types import Report, report_schema
from foreword.evaluation.report.rows_to_read import rows_to_read
from foreword.evaluation.report.sections import page_of
from foreword.evaluation.report.summary import compare, evaluate
from foreword.evaluation.report.svg import width
from foreword.evaluation.report.translator import Translator
from foreword.evaluation.report.verdict_text import beside, sentences
from foreword.evaluation.report.write_report import language_of, render_html, render_markdown, write_report
from foreword.evaluation.statistics.verdict import compare_family
from foreword.messages import Message, index_of

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
    assert parsed.tags.count("svg") == 4  # the difference, two metrics, training
    assert 'name="viewport"' in page
    for text in (
        "The prefix beats the prompt.",
        "训练.csv",
        "Paired difference in Accuracy",
        "some/base",
        "gold \\ answer",
    ):
        assert text in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.find(".//{*}title") is not None
        assert root.find(".//{*}desc") is not None
        assert "nan" not in drawing


def test_markdown_has_the_same_content_and_no_loose_markup() -> None:
    text = render_markdown(full_report())
    assert text.startswith("# Reviews\n\nCreated 2026-01-01.\n\n**The prefix beats the prompt.**\n")
    assert "\\<script\\>" in text
    assert not re.search(r"(?<!\\)<", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
    assert any("Accuracy" in line for line in tables)
    assert "The foreword: gold \\\\ answer" in text
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
    for points in ([(1, 2.0)], [(0, 0.0), (1, 0.0)], [(0, -1e-9), (10**6, 1e9), (2, math.nan)], []):
        for level in (None, 0.5, math.nan):
            drawn = charts.training(points, points, ("<Title>", "loss", "dev"), text, level)
            assert "nan" not in drawn
            ElementTree.fromstring(drawn)
    for low, high in ((-1.0, 2.0), (0.0, 0.0), (1e-9, 1e-9), (-math.inf, 1.0)):
        ElementTree.fromstring(charts.difference({"low": low, "high": high, "estimate": low}, text))


def comparison() -> dict[str, object]:
    """As ``foreword compare`` writes one: more systems than are shown at once, charts of its own."""
    figures = {name: evaluate(predictions(n), "classification") for n, name in enumerate(("a", "b", "c", "d"), 2)}
    points = [{"name": name, "x": x, "y": 0.5, "front": x == 0} for name, x in zip("abcd", (0, 2, 2, 900), strict=True)]
    law = [{"rows": n, "value": 0.5 + n / 1e4, "low": 0.4, "high": 0.9} for n in (25, 50, 100, 200)]
    pareto = {
        "kind": "pareto",
        "title": Message("{metric} by work", metric=Message("Accuracy (%)")),
        "metric": "accuracy",
        "axis": "GFLOP a row, fewer is cheaper",
        "points": points,
    }
    by_rows = Message("{metric} by training rows", metric=Message("Accuracy (%)"))
    band = {"kind": "band", "title": by_rows, "metric": "accuracy", "axis": "training rows",
            "points": [{"rows": 25, "value": 0.5}], "expected": law}  # fmt: skip
    own = Message("LoRA")
    interval = Message("{level} interval {low} to {high}", level="95%", low="-0.5", high="+0.5")
    facts = Message("{interval}, paired, {k} seed{k!p}", interval=interval, k=3)
    form = "Do not train: {a} is as good as {b}, within {margin}: {metric} {gain} ({facts})."
    verdict = Message(
        form, a=own, b=Message("your prompt"), margin=Message("{n} points", n="1.0"), metric=Message("Accuracy"),
        gain=Message("{n} points", n="+0.0"), facts=facts,
    )  # fmt: skip
    ends = Message("{low} to {high}", low="-0.3", high="+0.5")
    less = Message(
        "{a!c} is {gain} less; the interval ({ends}) includes 0.",
        a=Message("P-tuning"), gain=Message("{n} points", n="0.1"), ends=ends,
    )  # fmt: skip
    return {
        "title": Message("Comparison on {b}", b="tiny"),
        "verdict": verdict,
        "verdict_lines": [verdict, less],
        "state": "equal",
        "metric": "accuracy",
        "systems": figures,
        "titles": {"a": Message("your prompt"), "b": own, "c": Message("P-tuning")},
        "chosen_on_dev": {"prompt": "a", "trained": "b"},
        "tables": [
            {"title": "Costs", "chart": pareto, "head": ["", "decision"], "lines": [["LoRA", "better"]], "own": True},
            {"title": "Learning curve", "chart": band, "head": ["rows"], "lines": [["25"]]},
        ],
    }


SAID = (
    "Do not train: LoRA is as good as your prompt, within 1.0 points: Accuracy +0.0 points (95% interval -0.5 to +0.5, "
    "paired, 3 seeds)."
)
SAID_IN_CHINESE = (
    "不必训练：LoRA与你的提示词一样好，相差在 1.0 个百分点以内：准确率 +0.0 个百分点"
    "（95% 区间 -0.5 到 +0.5，配对，3 个种子）。"
)


def test_a_comparison_shows_the_two_that_matter_and_folds_the_rest() -> None:
    page = render_html(comparison())
    parsed = Balance()
    parsed.feed(page)
    assert not parsed.open
    assert parsed.tags.count("details") == 2
    assert page.index(">Your prompt: gold") < page.index(">LoRA: gold") < page.index("<details")
    assert page.index(">Costs<") < page.index(">LoRA: gold")
    for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
        root = ElementTree.fromstring(drawing)
        assert root.findall(".//{*}circle")
        assert root.find("{*}desc") is not None
    # Dots that lie on each other share one mark.
    assert ">2, 3</text>" in page


def test_the_card_says_it_in_three_words_with_two_figures_and_the_difference() -> None:
    page = render_html({**full_report(), "state": "better"})
    card = page[page.index('<div class="card good">') : page.index('class="footnote"')]
    assert '<span lang="en">Use the foreword</span><span lang="zh">使用前言</span>' in card
    assert re.findall(r'class="number">([\d.]+)<', card) == ["66.7", "85.0"]
    assert card.count("<svg") == 1
    assert 'class="zero"' in card
    assert "&lt;script&gt;" in card  # the warning stands inside
    tones = {"better": "good", "cannot_tell": "open", "worse": "keep", "prompt_kept": "keep", "nothing_learned": "bad"}
    for state, tone in tones.items():
        assert f'<div class="card {tone}">' in render_html({**full_report(), "state": state})


def test_the_metric_that_decides_is_drawn_first() -> None:
    report = {**full_report(), "metric": "macro_f1"}
    del report["difference"]
    page = render_html(report)
    assert re.findall(r"<svg.*?<title>(.*?)</title>", page, re.S)[:2] == ["Macro F1 (%)", "Accuracy (%)"]
    assert ">Macro F1 (%)</span>" in page[page.index("<thead>") : page.index("</thead>")].split("<th")[3]


def test_the_most_frequent_label_is_a_row_of_every_table_of_classes() -> None:
    text = render_markdown(full_report())
    assert "| always good | 33.3 | 16.7 | 60 |" in text
    assert "| always good |" not in render_markdown({**full_report(), "systems": {}})


def test_the_page_says_its_own_words_in_chinese_and_leaves_those_of_rows() -> None:
    page = render_html(comparison())
    for text in (SAID_IN_CHINESE, "P-tuning低 0.1 个百分点；区间（-0.3 到 +0.5）包含 0。", "学习曲线", "更好"):
        assert f'lang="zh">{text}<' in page
    rows = [{"id": "1", "input": "Results", "gold": "better", "outputs": {"prompt": "yes", "foreword": "open"}}]
    page = render_html({"rows": rows})
    assert re.search(r"gold: |better</td>", page)
    assert "更好" not in page
    assert ">open</td>" in page


def test_markdown_says_in_chinese_what_the_page_says() -> None:
    assert f"**Keep your prompt: {SAID}**" in render_markdown(comparison())
    text = render_markdown(comparison(), "zh")
    assert f"**保留提示词: {SAID_IN_CHINESE}**" in text
    assert "## 学习曲线" in text
    assert text.startswith("# tiny 上的比较\n")
    lines = [["worse", "better"], [Message("about {name}", name=Message("female")), "better"]]
    report = {"title": "better", "warnings": ["Rings: the text prompt."],
              "tables": [{"title": "Rounds", "head": ["note", "value"], "lines": lines, "own": [0]}]}  # fmt: skip
    text = render_markdown(report, "zh")
    assert "> 警告：圆圈：文本提示词。" in text
    assert "| 更差 | better |" in text
    assert "| 改成女性 | better |" in text
    page = render_html(report)
    assert '<span lang="zh">更差</span></th><td>better</td>' in page
    assert "警告" not in render_markdown(report)


def test_what_is_read_back_from_a_file_is_said_in_chinese_too(tmp_path: Path) -> None:
    paths = write_report(tmp_path, comparison())
    back = json.loads(paths["json"].read_text(encoding="utf-8"))
    assert back["verdict"] == SAID
    assert back["messages"][SAID]["id"].startswith("Do not train: {a} is as good as {b}")
    assert render_html(back) == paths["html"].read_text(encoding="utf-8")
    assert render_markdown(back, "zh") == paths["zh-CN.md"].read_text(encoding="utf-8")
    # Only what a catalogue knows is made of ids and arguments that a file holds.
    hostile = {"messages": {"x": {"id": "{0.__class__}", "arguments": {}}}, "warnings": ["x"]}
    assert "> 警告：x" in render_markdown(hostile, "zh")


def test_the_page_opens_in_the_language_of_the_rows(tmp_path: Path) -> None:
    chinese = {"rows": [{"input": "房间很干净", "gold": "好", "outputs": {}}]}
    assert language_of(chinese) == "zh"
    assert language_of(full_report()) == "en"
    assert language_of({"task": {"guidance": "判断情感。"}}) == "zh"
    page = write_report(tmp_path, chinese)["html"].read_text(encoding="utf-8")
    assert 'id="zh" checked' in page
    assert '<html lang="zh-CN">' in page


def test_a_wrong_kind_of_value_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match="this is not a report") as raised:
        render_html({"title": "x", "warnings": "not a list"})
    assert "warnings" in str(raised.value)
    with pytest.raises(DataError):
        Report.of({"state": "splendid"})


def test_the_schema_names_every_key_that_the_page_describes() -> None:
    schema = report_schema()
    described = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    for key in schema["properties"]:
        assert f"`{key}`" in described, key
    assert schema["additionalProperties"] is True


def test_all_own_words_are_in_the_catalogue() -> None:
    for report in (full_report(), comparison()):
        typed = Report.of({**report, "warnings": []})
        translator = Translator(index_of(report))
        html_of(page_of(typed, translator), translator)
        assert translator.missing <= {"Reviews", "The prefix beats the prompt.", *"abcd"}


def test_rows_to_read_name_their_columns_where_a_phone_stacks_them() -> None:
    rows = [{"id": "1", "input": "word " * 30, "gold": "a", "outputs": {"prompt": "b"}}]
    page = render_html({"rows": rows})
    name = '<span class="head"><span lang="en">gold</span><span lang="zh">标准答案</span>: </span>'
    assert f"<td>{name}a</td>" in page
    assert '<td class="wrong">' in page
    assert "word word" in page


def test_rows_are_filtered_without_a_script() -> None:
    rows = rows_to_read({"prompt": predictions(3), "foreword": predictions(7)}, "accuracy", most=2)
    page = render_html({"rows": rows})
    assert len(rows) == 60
    for name, count in (("all", 60), ("wrong", 9), ("won", 2), ("lost", 2), ("other", 60 - 8)):
        assert re.search(rf'id="rows-{name}"[^(]*\({count}\)</label>', page), name
    assert "<script" not in page
    assert page.count('class="right"') > 60


def test_quoted_words_of_the_user_stay_as_they_are() -> None:
    change = Message("{quoted} became {other}", quoted=repr("better"), other=repr("worse, open"))
    said = Message("{what} (of {name})", what=change, name=Message("your prompt"))
    assert said == "'better' became 'worse, open' (of your prompt)"
    assert said.render("zh") == "'better' 换成 'worse, open'（基于 你的提示词）"


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1, 0.3])
def test_every_verdict_has_chinese_words(seeds: int, shift: float) -> None:
    rng = np.random.default_rng(3)
    golds = ["x"] * 400
    names = {"a": Message("prefix tuning"), "b": Message("your best prompt"), "c": Message("LoRA")}
    for sign in (1, -1):
        right = {"a": 0.6 + sign * shift, "b": 0.6, "c": 0.5}
        runs = {
            name: [list(np.where(rng.random(400) < share, "x", "y")) for _ in range(seeds if name != "b" else 1)]
            for name, share in right.items()
        }
        found = compare_family(get_metric("accuracy"), runs, [("a", "b"), ("c", "b")], golds)
        for said in (*sentences(found[0], names).lines, beside(found[1], names)):
            assert not re.search("tuning|interval|points|prompt", said.render("zh")), said.render("zh")


def test_names_of_dots_do_not_cover_each_other() -> None:
    points = [{"name": f"s{n}", "x": 1 + n % 4 * 0.05, "y": 0.5 + n * 0.004, "front": n == 3} for n in range(12)]
    drawn = ElementTree.fromstring(charts.pareto("by work", "GFLOP", points, "{:.2f}".format))
    boxes = []
    for mark in drawn.findall(".//{*}text[@class='mark']"):
        x, y = float(mark.attrib["x"]), float(mark.attrib["y"])
        boxes.append((x, y - 10, x + width(mark.text or ""), y + 2))
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
    assert "### Better with the foreword than with the prompt" in text
    assert rows_to_read({}, "accuracy") == []
    written = [Prediction("1", "", "the cat sat", "the cat sat"), Prediction("2", "", "dogs", "the cat sat")]
    assert [one["why"] for one in rows_to_read({"foreword": written}, "rouge_l")] == ["worst", "best"]
