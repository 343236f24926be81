"""Messages: what the program says, in every language of the catalogues."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import string
from pathlib import Path

import pytest

import foreword
from foreword.evaluation.metrics.metric_registry import METRICS
from foreword.evaluation.report.summary import heading
from foreword.messages import Message, index_of, known_ids, languages, restored, said_in, stored, template
from foreword.methods.base import registry
from tests.catalogue import files, said

ROOT = Path(foreword.__file__).parent
FORMS = ("form", "forms")


def written_ids() -> dict[str, str]:
    """Every id in the source, with its file: what ``Message`` is called with, and what stands in ``form`` or ``forms``
    for it."""
    ids: dict[str, str] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for text in _ids(node):
                ids.setdefault(text, path.relative_to(ROOT).as_posix())
    return ids


def _ids(node: ast.AST) -> list[str]:
    parts: list[ast.expr | None] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Message", "_claimed"):
        parts = list(node.args[:1])
    elif isinstance(node, ast.Assign) and any(
        isinstance(t, ast.Name) and t.id in ("form", "forms") for t in node.targets
    ):
        value = node.value
        parts = [*value.values] if isinstance(value, ast.Dict) else [value]
        parts += [value.body, value.orelse] if isinstance(value, ast.IfExp) else []
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def strings(path: Path) -> set[str]:
    """Every text that stands in a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def template_ids() -> set[str]:
    """Every text that a template of the studio says."""
    calls = re.compile(r"""\bt\(\s*(?:"([^"]+)"|'([^']+)')""")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "studio" / "templates").glob("*.html")]
    return {double or single for source in sources for double, single in calls.findall(source)}


@pytest.mark.parametrize("language", languages())
def test_what_the_studio_says_has_a_translation(language: str) -> None:
    assert len(template_ids()) > 100
    assert not template_ids() - known_ids(language)


@pytest.mark.parametrize("language", languages())
def test_every_message_has_a_translation(language: str) -> None:
    ids = written_ids()
    assert len(ids) > 150
    missing = {text: file for text, file in ids.items() if text not in known_ids(language)}
    assert not missing


@pytest.mark.parametrize("language", languages())
def test_translations_have_the_places_of_their_messages_and_none_is_left_over(language: str) -> None:
    ids = written_ids()
    constants = {text for path in ROOT.rglob("*.py") for text in strings(path)} | template_ids()
    for text in known_ids(language):
        other = template(text, language)
        assert other is not None
        if text in ids:
            assert places(other) <= places(text), text
        assert text in ids or "{" not in text or text in constants, f"no code says: {text}"


def test_what_errors_and_checks_say_has_a_translation() -> None:
    missing: dict[str, list[str]] = {}
    formatted: list[str] = []
    for path in files():
        texts, made = said(path)
        sentences = {text for text in texts if " " in text.strip() and not text.startswith(("foreword ", "pip "))}
        if sentences - known_ids("zh"):
            missing[path.name] = sorted(sentences - known_ids("zh"))
        formatted += made
    assert not missing
    assert not formatted, "a text with parts is a Message, or it cannot be said in another language"


@pytest.mark.parametrize("language", languages())
def test_metrics_and_methods_have_names(language: str) -> None:
    for name, metric in METRICS.items():
        assert metric.title in known_ids(language), name
        assert heading(name) in known_ids(language), name
    for name, method in registry().items():
        assert not method.title or method.title in known_ids(language), name


def test_the_same_text_stands_in_one_catalogue_only() -> None:
    for language in languages():
        lines = [
            line.split(" = ", 1)[0]
            for file in (ROOT / "messages" / language).glob("*.toml")
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.startswith('"')
        ]
        assert len(lines) == len(set(lines))


def test_one_word_for_a_foreword_and_the_keys_in_chinese() -> None:
    for text in known_ids("zh"):
        if re.search(r"\b(a|the|this|each|different|several) forewords?\b", text.lower()):
            assert "前言" in (template(text, "zh") or ""), text
    assert (template("rows", "zh"), template("decision", "zh")) == ("样本数", "结论")
    assert Message("{n} seed{n!p} to fit the budget", n=1).render("zh") == "为控制在预算内，只用 1 个随机种子"


def test_a_message_is_its_english_text_and_speaks_chinese() -> None:
    seeds = Message("{n} seed{n!p} to fit the budget", n=2)
    assert seeds == "2 seeds to fit the budget"
    assert Message("{n} seed{n!p} to fit the budget", n="1") == "1 seed to fit the budget"
    begun = Message("{name!c}", name=Message("your prompt"))
    assert (begun, begun.render("zh")) == ("Your prompt", "你的提示词")
    names = Message("Most is lost without {names}.", names=[Message("token {n}", n=1), Message("layer {n}", n=2)])
    assert names == "Most is lost without token 1, layer 2."
    assert names.render("zh") == "去掉后损失最大的是：词元 1、第 2 层。"
    assert Message("nobody says this").render("zh") == "nobody says this"
    assert said_in("{braces}", "zh") == "{braces}"
    assert Message("always {label}", label="{x}").render("zh") == "总答 {x}"


def test_a_message_goes_through_json_copies_and_pickles() -> None:
    names = Message("Most is lost without {names}.", names=[Message("token {n}", n=1), "x"])
    for again in (restored(stored(names)), copy.deepcopy(names), pickle.loads(pickle.dumps(names))):  # noqa: S301
        assert isinstance(again, Message)
        assert again == names
        assert again.render("zh") == names.render("zh")
    assert index_of({"a": [names, Message("rows")]}) == {str(names): names.to_json()}
    for odd in ({"id": "no such", "arguments": {}}, {"id": "token {n}", "arguments": {}}, {"id": "rows"}):
        assert restored(odd) == odd
