"""The report: one content in three forms, safe against what rows contain."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from foreword.evaluation import charts
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report import render_html, render_markdown, write_report
from foreword.evaluation.summary import compare, evaluate

HOSTILE = '<script>alert("x")</script> | `a` \n| b'
VOID = {"meta", "line", "circle", "polyline", "br"}


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


def test_three_files_are_written_and_the_json_is_strict(tmp_path: Path) -> None:
    report = {**full_report(), "odd": {"value": math.inf, "half": "\ud83d", "pair": (1, 2)}}
    paths = write_report(tmp_path / "run", report)
    assert sorted(path.name for path in paths.values()) == ["report.html", "report.json", "report.md"]
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
