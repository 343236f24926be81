"""The data pages: what was recognised, problems in their place, rows left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foreword.studio.pages import language_of
from foreword.studio.workspace import Workspace, slug
from tests.studio.conftest import Browser

ROWS = "text,label\n" + "".join(f"number {i} {word},{word}\n" for i in range(20) for word in ("yes", "no"))
HOSTILE = ROWS + '"<b onmouseover=""x"">bold</b><script>alert(1)</script>",yes\n=1+2,no\n"{{ 7*7 }}{% raw %}",yes\n'


def test_an_upload_shows_its_mapping_its_rows_and_that_it_is_ready(browser: Browser) -> None:
    name = browser.upload("my reviews.csv", ROWS)
    assert name == "my-reviews"
    text = browser.get(f"/data/{name}").text
    assert "Ready to train" in text
    assert "number 0 yes" in text
    assert '<option value="label" selected>' in text


def test_a_hostile_file_shows_as_text(browser: Browser) -> None:
    text = browser.get(f"/data/{browser.upload('rows.csv', HOSTILE)}?kind=").text + browser.get("/data").text
    assert "<script>alert" not in text
    assert "<b onmouseover" not in text
    name = browser.upload("first.csv", "text,label\n" + HOSTILE[-90:] + ROWS[11:])
    text = browser.get(f"/data/{name}").text
    assert "{{ 7*7 }}{% raw %}" in text
    assert "49" not in text
    assert "=1+2" in text


def test_rows_with_problems_are_shown_left_out_and_saved(browser: Browser) -> None:
    name = browser.upload("rows.csv", ROWS + ",yes\nsame,yes\nsame,no\n")
    text = browser.get(f"/data/{name}").text
    assert "3 rows have problems" in text
    assert "rows.csv:42" in text
    assert "is empty" in text
    saved = browser.get(f"/data/{name}/bad-rows.csv")
    assert saved.text.splitlines()[0] == "where,problem,text,label"
    assert len(saved.text.splitlines()) == 4
    browser.post(f"/data/{name}/bad-rows", {"skip": "yes"})
    assert "3 rows are left out" in browser.get(f"/data/{name}").text


def test_the_mapping_can_be_changed(browser: Browser) -> None:
    lines = "".join(f"title {i},body {i},{'ab'[i % 2]}\n" for i in range(30))
    name = browser.upload("news.csv", "title,text,label\n" + lines)
    browser.post(f"/data/{name}/mapping", {"inputs": "title", "target": "label", "kind": "classification"})
    text = browser.get(f"/data/{name}").text
    assert 'value="title" checked' in text
    assert 'value="text" checked' not in text


def test_columns_that_are_not_recognised_are_asked_for(browser: Browser) -> None:
    lines = "".join(f"x{i},y{i},z{i}\n" for i in range(30))
    name = browser.upload("odd.csv", "alpha,beta,gamma\n" + lines)
    text = browser.get(f"/data/{name}").text
    assert "What the columns are" in text
    browser.post(f"/data/{name}/mapping", {"inputs": "alpha", "target": "gamma", "kind": "generation"})
    assert "First rows" in browser.get(f"/data/{name}").text


def test_a_kind_of_file_that_is_not_read_is_refused(browser: Browser) -> None:
    answer = browser.post("/data", files={"file": ("virus.exe", b"MZ")})
    assert answer.status_code == 422
    assert "this kind of file is not read" in answer.text
    assert "Uploaded" not in browser.get("/data").text


def test_pages_speak_the_browsers_language_and_can_be_switched(browser: Browser) -> None:
    assert "选择文件" in browser.get("/data", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}).text
    answer = browser.get("/preferences?lang=zh", headers={"Referer": "http://127.0.0.1:8266/runs?a=b"})
    assert answer.url.path == "/runs"
    assert 'lang="zh-CN"' in browser.get("/data").text
    browser.get("/preferences?theme=dark")
    assert 'data-theme="dark"' in browser.get("/data").text


@pytest.mark.parametrize(
    ("accepted", "language"), [("zh-TW", "zh"), ("en;q=0.1, zh;q=0.9", "zh"), ("fr", "en"), ("", "en"), (";q=x", "en")]
)
def test_the_language_is_the_first_that_both_speak(accepted: str, language: str) -> None:
    assert language_of(None, accepted) == language


def test_names_in_the_workspace_are_plain_and_never_taken_twice(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert [workspace.new("data", "评论/../x y").name for _ in range(2)] == ["评论-..-x-y", "评论-..-x-y-2"]
    assert slug("..") == "unnamed"
    workspace.delete("data", "评论-..-x-y")
    assert workspace.names("data") == ["评论-..-x-y-2"]
    workspace.restore(workspace.names("bin")[0])
    assert set(workspace.names("data")) == {"评论-..-x-y", "评论-..-x-y-2"}


def test_the_studio_itself_loads_no_model_library() -> None:
    code = "import foreword.studio.studio_app, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
