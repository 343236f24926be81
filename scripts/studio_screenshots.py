"""The pictures of docs/studio.md: drives a studio through Chromium, on SmolLM2 and stories of Reuters R8.

    .venv/bin/python scripts/studio_screenshots.py            writes docs/images/studio-*.png

Both are fetched once. Needs Debian's chromium; takes some minutes.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foreword import samples
from foreword.data.readers.read import read

TOPICS = {"acq": "acquisitions", "earn": "earnings", "trade": "trade"}
ROOT = Path(__file__).resolve().parents[1]


def write_rows(path: Path, each: int = 70, words: int = 20) -> None:
    """The beginnings of stories on three topics, and two rows as they slip into real files."""
    counts = dict.fromkeys(TOPICS, 0)
    rows = []
    for row in read(str(samples.reuters_r8()[0])).rows:
        topic = str(row.fields["label"])
        text = " ".join(str(row.fields["text"]).split()[:words])
        if counts.get(topic, each) < each:
            counts[topic] += 1
            rows.append((text, TOPICS[topic]))
    rows[7:7] = [("", "trade"), (rows[2][0], "trade" if rows[2][1] != "trade" else "earnings")]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "topic"), *rows])


@contextmanager
def studio(workspace: Path, base: Path) -> Iterator[str]:
    """The address of a studio that runs inside the block."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "foreword", "studio", str(workspace), "--bases", str(base), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/data", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def take(page: Any, folder: Path, rows: Path, base: str) -> None:
    """Go through the pages and save a picture of each."""

    def picture(name: str, height: int = 800) -> None:
        page.set_viewport_size({"width": 1200, "height": height})
        page.wait_for_timeout(400)
        page.screenshot(path=str(folder / f"studio-{name}.png"))

    page.goto("/data")
    page.set_input_files("#file", rows)
    page.click("text=Upload")
    picture("data", 900)
    page.click("text=Leave them out")
    page.goto("/train?data=news")
    page.fill("#base", base)
    page.click("summary:has-text('More settings')")
    page.fill("#epochs", "1")
    page.click("text=Start training")
    page.wait_for_selector("[data-chart=dev] canvas")
    page.wait_for_timeout(5000)
    picture("training", 900)
    page.wait_for_selector(".report .answer")
    picture("report", 900)
    page.goto("/runs/news-prefix/rows?kind=changed")
    picture("rows")
    page.goto("/runs/news-prefix/try")
    page.click("text=Switch on")
    page.wait_for_selector("form.try")
    page.wait_for_timeout(500)
    page.fill("form.try textarea", "the company agreed to buy its rival for mln dlrs in cash")
    page.click("text=Ask")
    page.wait_for_selector("#answers .systems")
    picture("try", 900)
    page.click("text=Switch off")
    page.goto("/data/news/prompt")
    page.fill("#base", base)
    page.click("text=Load it")
    page.wait_for_selector("#dev-answers table")
    page.fill("#guidance", "Name the topic of the news: acquisitions, earnings or trade.\n\n")
    page.wait_for_selector("text=answers changed")
    page.click("text=Show a row as the model reads it")
    page.wait_for_selector(".tokens")
    picture("prompt", 1000)


def main() -> int:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a folder or GGUF file  [default: SmolLM2-135M-Instruct]")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    base = (chosen.base or samples.smollm2()).resolve()
    chosen.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, studio(Path(scratch) / "workspace", base) as url:
        write_rows(Path(scratch) / "news.csv")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(base_url=url, color_scheme="light", locale="en-US")
            page.set_default_timeout(900_000)
            take(page, chosen.output, Path(scratch) / "news.csv", base.name)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
