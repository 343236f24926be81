"""The pictures of docs/studio.md: drives a studio through Chromium.

    .venv/bin/python scripts/studio_screenshots.py            writes docs/images/studio-*.png

The base is a tiny random one, all of whose weights are trained, so that nothing is fetched: the pictures show the pages
and not what a real base reaches. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

WORDS = {
    "good": ("lovely", "warm", "bright", "great", "funny", "superb"),
    "bad": ("dull", "cold", "awful", "boring", "bleak", "poor"),
}
NOUNS = ("film", "story", "cast", "play", "book", "song", "show")
ROOT = Path(__file__).resolve().parents[1]


def write_rows(path: Path) -> None:
    """Short reviews that a tiny model can learn to tell apart, and two rows as they slip into real files."""
    rng = random.Random(1)
    rows: dict[str, str] = {}
    while len(rows) < 400:
        label = rng.choice(list(WORDS))
        form = rng.choice(("a {word} {noun}", "{word} {noun}, no. {k}", "the {noun} was {word}", "{noun} {k}: {word}"))
        rows[form.format(word=rng.choice(WORDS[label]), noun=rng.choice(NOUNS), k=rng.randrange(1000))] = label
    lines = list(rows.items())
    lines[7:7] = [("", "good"), (lines[2][0], "bad" if lines[2][1] == "good" else "good")]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *lines])


def tiny_base(folder: Path) -> Path:
    """A tiny random base in a folder."""
    from foreword.testing import byte_tokenizer, tiny

    tiny("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


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
    page.goto("/train?data=films")
    page.fill("#base", base)
    page.click("summary:has-text('More settings')")
    page.check("input[value=full]")
    page.fill("#epochs", "7")
    page.fill("#batch", "8")
    page.fill("#rate", "0.003")
    page.click("text=Start training")
    page.wait_for_selector("[data-chart=dev] canvas")
    page.wait_for_timeout(5000)
    picture("training", 900)
    page.wait_for_selector(".report .answer")
    picture("report", 900)
    page.goto("/runs/films-full/rows?kind=changed")
    picture("rows")
    # All of a base's weights cannot be served beside others: the last picture is of a prefix.
    page.goto("/train?data=films")
    page.fill("#base", base)
    page.click("summary:has-text('More settings')")
    page.fill("#epochs", "3")
    page.fill("#batch", "8")
    page.click("text=Start training")
    page.wait_for_selector(".report .answer")
    page.goto("/runs/films-prefix/try")
    page.click("text=Switch on")
    page.wait_for_selector("form.try")
    page.wait_for_timeout(500)
    page.fill("form.try textarea", "a warm and funny play")
    page.click("text=Ask")
    page.wait_for_selector("#answers .systems")
    picture("try", 900)
    page.click("text=Switch off")
    page.goto("/data/films/prompt")
    page.fill("#base", base)
    page.click("text=Load it")
    page.wait_for_selector("#dev-answers table")
    page.fill("#guidance", "Was the audience pleased?\n\n")
    page.wait_for_selector("text=answers changed")
    page.click("text=Show a row as the model reads it")
    page.wait_for_selector(".tokens")
    picture("prompt", 1000)


def main() -> int:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a folder or GGUF file  [default: a tiny random one]")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        base = (chosen.base or tiny_base(Path(scratch) / "tiny-llama")).resolve()
        url = stack.enter_context(studio(Path(scratch) / "workspace", base))
        write_rows(Path(scratch) / "films.csv")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(base_url=url, color_scheme="light", locale="en-US")
            page.set_default_timeout(900_000)
            take(page, chosen.output, Path(scratch) / "films.csv", base.name)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
