"""The whole way in a real browser: upload, mend, prompt, train, kill the studio, rows, retrain, try, serve, export.

Needs Debian's Chromium; nothing is fetched. Console errors fail, and so does a serious finding of axe-core.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
ROOT = Path(__file__).parents[2]
SECONDS = 90_000
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")


def rows() -> str:
    """Rows with something to learn, with two that have to be left out, and with hostile cells."""
    rng = random.Random(0)
    words = {"good": "lovely great fine warm bright".split(), "bad": "dull cold grey awful bleak".split()}
    lines = ["text,label"]
    for number in range(240):
        label = rng.choice(["good", "bad"])
        lines.append(f"a {rng.choice(words[label])} film with number {number * 7919 % 10007},{label}")
    lines[3:3] = [",good", '"<img src=x onerror=alert(1)><b>bold</b> {{ 7*7 }} lovely",good', "=1+2 dull,bad"]
    return "\n".join(lines) + "\n"


class Studio:
    """A studio as a process, which can be killed."""

    def __init__(self, workspace: Path, base: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-m", "foreword", "studio", str(workspace), "--bases", str(base), "--port", str(self.port),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=ROOT, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}/data", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the studio did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def studio(tmp_path: Path, tiny_base: Path) -> Iterator[Studio]:
    made = Studio(tmp_path / "workspace", tiny_base)
    yield made
    made.kill()
    for record in (tmp_path / "workspace").glob("runs/**/command.json"):
        try:
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def page(studio: Studio) -> Iterator[Any]:
    """A page whose console errors fail the test."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_page(base_url=studio.url, viewport={"width": 1440, "height": 900}, locale="en-US")
        made.set_default_timeout(SECONDS)
        made.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        made.on("pageerror", lambda error: errors.append(str(error)))
        made.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        made.errors = errors
        yield made
        browser.close()
    assert [error for error in errors if "ERR_" not in error] == []


def settled(page: Any, selector: str) -> None:
    """Wait until something is there and htmx has taken charge of it."""
    page.wait_for_selector(selector)
    page.wait_for_function("!document.querySelector('.htmx-added, .htmx-swapping, .htmx-settling, .htmx-request')")
    page.wait_for_timeout(100)


def look(page: Any, *paths: str) -> None:
    """No page is wider than its window, and axe-core finds nothing serious, in both languages."""
    for path in paths:
        for width, lang in ((1440, "zh"), (1024, "en"), (390, "zh")):
            page.set_viewport_size({"width": width, "height": 900})
            page.context.add_cookies([{"name": "lang", "value": lang, "domain": "127.0.0.1", "path": "/"}])
            page.goto(path)
            assert page.get_attribute("html", "lang") == {"zh": "zh-CN", "en": "en"}[lang]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.impact, v.nodes[0].html]))")
        assert not [one for one in found if one[1] in ("serious", "critical")], path
    page.context.clear_cookies(name="lang")
    page.set_viewport_size({"width": 1440, "height": 900})


def test_from_a_file_to_a_served_answer(studio: Studio, page: Any, tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text(rows())
    page.goto("/")
    page.set_input_files("#file", file)
    page.keyboard.press("Tab")
    page.click("text=Upload")
    assert "<img src=x onerror" in page.inner_text("table.first")
    assert "=1+2 dull" in page.inner_text("table.first")
    assert "{{ 7*7 }}" in page.inner_text("table.first")
    page.click("text=Leave them out")
    page.wait_for_selector("text=1 rows are left out")

    page.click("nav.tabs >> text=Prompt")
    page.click("text=Load it")
    settled(page, "#dev-answers table")
    page.fill("#guidance", "Good or bad?\n")
    page.wait_for_selector("text=answers changed")
    page.click("text=Keep this prompt")
    page.wait_for_selector("#dev-answers table")
    look(page, "/data", "/data/reviews", "/data/reviews/prompt?base=tiny-llama")

    page.goto("/train?data=reviews")
    page.click("summary:has-text('More settings')")
    page.fill("#epochs", "3")
    page.fill("#batch", "2")
    page.focus("text=Start training")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-chart=loss] canvas")
    page.reload()
    page.wait_for_selector("[data-chart=loss] canvas")
    studio.kill()
    studio.start()
    page.goto("/runs/reviews-prefix")
    page.wait_for_selector(".report .answer")
    page.wait_for_selector("[data-chart=dev] canvas")
    look(page, "/train", "/runs", "/runs/reviews-prefix")

    page.goto("/runs/reviews-prefix/rows")
    answer = page.locator("tbody select").first
    answer.select_option("good" if answer.input_value() == "bad" else "bad")
    page.wait_for_selector("text=1 corrected")
    page.click("text=Take them in")
    page.click("text=Train again with these")
    page.wait_for_selector("text=from reviews-prefix")
    page.click("text=Stop at once")
    look(page, "/runs/reviews-prefix/rows")

    page.goto("/runs/reviews-prefix/try")
    page.click("text=Switch on")
    settled(page, "form.try")
    page.fill("form.try textarea", "a lovely film")
    page.click("text=Ask")
    page.wait_for_selector("#answers .systems")
    assert page.locator("#answers .systems section").count() == 3
    served = page.inner_text("pre >> nth=0").split()[1]
    body = json.dumps({"model": "foreword", "input": {"text": "a dull film"}}).encode()
    request = urllib.request.Request(served, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        assert json.loads(answered.read())["data"][0]["label"] in ("good", "bad")
    look(page, "/runs/reviews-prefix/try")
    page.goto("/runs/reviews-prefix/try")
    page.click("text=Switch off")
    page.wait_for_selector("text=Not served")

    page.goto("/runs/reviews-prefix/export")
    page.click("section:has(h2:text('PEFT')) button")
    with page.expect_download() as download:
        page.click("section:has(h2:text('PEFT')) >> text=Download")
    assert download.value.suggested_filename == "peft.zip"
    look(page, "/runs/reviews-prefix/export")
