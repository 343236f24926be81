"""Screens of commands on a tiny base, at 80 and 120 columns, for docs/screens.md: ``python scripts/screens.py``.

Each command runs on a pseudo terminal of that width; what stands on it at the end is written down, and a line that is
wider than the terminal is an error.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import string
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from foreword.messages.width import columns
from foreword.testing import byte_tokenizer, tiny

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "train": "train reviews.csv --base tiny --output-dir run --learning-rate 0.3 --set max_steps=60",
    "explain": "explain run/model.foreword reviews.csv --rows 16",
}
_CODE = re.compile(r"\x1b\[\??([\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|\x1b.?")


class Screen:
    """As much of a terminal as progress bars need: up, erase the line, return, new line."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0

    def feed(self, text: str) -> None:
        """Draw what a program wrote."""
        for number, code, control, plain in _CODE.findall(text):
            if code == "A":
                self.row = max(0, self.row - int(number or 1))
            elif code == "K":
                self.lines[self.row] = "" if number == "2" else self.lines[self.row][: self.column]
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)

    def shown(self) -> list[str]:
        """The lines, without the space behind them."""
        return "\n".join(line.rstrip() for line in self.lines).strip("\n").split("\n")


def run(command: str, width: int, folder: Path) -> list[str]:
    """The screen of a command when it has ended."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(width), "TERM": "xterm", "FOREWORD_LANG": "en"}
    words = [sys.executable, "-m", "foreword", *command.split()]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment)
    os.close(theirs)
    screen = Screen()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the program has ended
            break
        if not data:
            break
        screen.feed(data.decode(errors="replace"))
    process.wait()
    os.close(ours)
    return screen.shown()


def main() -> None:
    """Write docs/screens.md."""
    page = [
        "# Screens",
        "",
        "What stands on a terminal of 80 and of 120 columns when a command has ended, on a tiny random base that can",
        "learn nothing: `scripts/screens.py`.",
    ]
    for width in (80, 120):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tiny("llama").save_pretrained(folder / "tiny")
            byte_tokenizer().save_pretrained(folder / "tiny")
            drawn = random.Random(0)
            rows = []
            for i in range(240):
                words = drawn.choices(string.ascii_lowercase[:16], k=8)
                words[drawn.randrange(8)] = "zx"[i % 2]
                rows.append(f"{''.join(words)},{('bad', 'good')[i % 2]}")
            (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
            for title, command in COMMANDS.items():
                page += ["", f"## {title}, {width} columns", "", "```", f"$ foreword {command}"]
                end = run(command, width, folder)
                wide = [line for line in end if columns(line) > width]
                if wide:
                    sys.exit(f"{title}: wider than {width}: {wide[0]}")
                page += [*end, "```"]
    (ROOT / "docs" / "screens.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
