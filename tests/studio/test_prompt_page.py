"""The prompt page: a base answers while the prompt is written; a newer version takes an older one's place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from foreword.errors import ForewordError
from foreword.studio.compare_routes import planned, systems_so_far
from foreword.studio.model_client import ModelClient
from foreword.studio.run_folders import RunFolder
from tests.studio.conftest import Browser

ROWS = "text,label\n" + "".join(f"number {i} {word},{word}\n" for i in range(30) for word in ("yes", "no"))


def test_answers_follow_the_prompt_and_a_row_shows_its_tokens(browser: Browser) -> None:
    name = browser.upload("rows.csv", ROWS)
    assert "Load it" in browser.get(f"/data/{name}/prompt").text
    browser.post(f"/data/{name}/model", {"base": "tiny-llama"})
    for _ in range(600):
        text = browser.get(f"/data/{name}/prompt?base=tiny-llama&part=1").text
        if "dev-answers" in text:
            break
        time.sleep(0.1)
    asked = {"guidance": "Say yes or no.\n", "template": "{{ text }} ->", "word-0": " no", "word-1": " yes"}
    text = browser.post(f"/data/{name}/answers", asked).text
    assert "as you write it" in text
    assert "answers changed" in text
    text = browser.post(f"/data/{name}/tokens", {**asked, "row": "3"}).text
    assert "of-prompt" in text
    assert "of-answer" in text
    for wrong, problem in (({"template": "{{ nothing }}"}, "nothing"), ({"word-0": " yes"}, "yes")):
        assert problem in browser.post(f"/data/{name}/answers", {**asked, **wrong}).text
    browser.post(f"/data/{name}/prompt", {**asked, "base": "tiny-llama"})
    assert "{{ text }} -&gt;" in browser.get(f"/data/{name}").text
    assert browser.post(f"/data/{name}/prompt", {**asked, "template": ""}).status_code == 422
    browser.post(f"/data/{name}/prompt", {"again": "yes"})
    assert "Text: {{ text }}" in browser.get(f"/data/{name}").text


def test_a_base_that_is_not_loaded_cannot_be_asked() -> None:
    client = ModelClient()
    with pytest.raises(ForewordError, match="not loaded"):
        client.ask({"op": "answers"})
    assert client.state({"data": "x"}) == "off"


def test_a_comparison_shows_its_plan_and_what_it_has_found(tmp_path: Path, browser: Browser) -> None:
    run = RunFolder("some", tmp_path)
    (tmp_path / "log").write_text("load model 1/1\nplan: about 8s; 32 rows\n")
    for name, reached in (("prompt", 0.5), ("prefix/seed-1", 0.75), ("prefix/seed-2", 0.25), ("broken", None)):
        folder = run.inner / "systems" / name
        folder.mkdir(parents=True)
        (folder / "done.json").write_text("{" if reached is None else f'{{"dev": {reached}}}')
    assert systems_so_far(run) == [("prefix", 2, 0.5), ("prompt", 1, 0.5)]
    assert planned(run) == "about 8s; 32 rows"
    assert "None chosen" in browser.get("/compare").text or "Upload a file" in browser.get("/compare").text
    name = browser.upload("rows.csv", ROWS)
    refused = browser.post("/comparisons", {"data": name, "base": "tiny-llama", "budget": "soon"})
    assert refused.status_code == 422
