"""Serving from the page: a process of its own, asked beside the prompt and the bare template."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest

from foreword.artifact.peek import peek
from foreword.errors import ForewordError
from foreword.studio import serving
from foreword.studio.run_folders import RunFolder
from foreword.studio.serve_process import write_systems
from foreword.studio.try_routes import fields_of
from tests.studio.conftest import Browser


def test_beside_the_foreword_stand_its_prompt_and_the_bare_template(trained: Path, tmp_path: Path) -> None:
    write_systems(trained / "run" / "model.foreword", tmp_path / "systems")
    found = {path.stem: peek(path) for path in (tmp_path / "systems").glob("*.foreword")}
    assert {"foreword", "no-prompt"} <= set(found)
    assert found["no-prompt"].num_values == 0
    assert found["no-prompt"].manifest.golden == []
    assert found["foreword"].digest == peek(trained / "run" / "model.foreword").digest


def test_a_server_is_switched_on_asked_and_switched_off(browser: Browser, run: Path) -> None:
    folder = RunFolder("first", run)
    with pytest.raises(ForewordError, match="does not answer"):
        serving.systems(folder)
    browser.post("/runs/first/serve", {"on": "yes"})
    try:
        for _ in range(600):
            text = browser.get("/runs/first/try?part=1").text
            if "curl" in text:
                break
            time.sleep(0.1)
        url = re.search(r"curl (http://127\.0\.0\.1:\d+/v1/classify)", text)
        assert url
        body = json.dumps({"model": "foreword", "input": {"text": "abcx"}}).encode()
        request = urllib.request.Request(url[1], body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            shares = json.loads(answer.read())["data"][0]["probabilities"]
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)
        asked = browser.post("/runs/first/answers", {"field-text": "abcx"}).text
        assert f"{100 * max(shares.values()):.0f}%" in asked
        assert "no prompt" in asked
    finally:
        browser.post("/runs/first/serve", {"on": "no"})
    assert serving.state(folder) == "off"


def test_the_fields_of_a_template_are_asked_for_in_its_order() -> None:
    assert fields_of({"template": "{{ b }} and {{ a }}", "guidance_column": ""}) == ["b", "a"]
