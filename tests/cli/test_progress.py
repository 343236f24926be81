"""Progress: lines off a terminal, a bar on one, and an eta that is right."""

from __future__ import annotations

import io

import pytest

from foreword.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_come_every_five_seconds_with_fields_and_eta(clock: list[float]) -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for step in range(97):
            clock[0] = float(step)
            progress("train", step, 96, loss=0.41234)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train 0/96 loss 0.4123"
    assert lines[1] == "train 5/96 loss 0.4123 eta 1m31s"
    assert lines[-1] == "train 96/96 loss 0.4123"
    assert len(lines) == 1 + 19 + 1


def test_a_smaller_count_starts_again(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress("rows", 10, 10)
    clock[0] = 1.0
    progress("rows", 0, 10)
    assert stream.getvalue().splitlines() == ["rows 10/10", "rows 0/10"]


def test_a_task_counts_for_itself(clock: list[float]) -> None:
    stream = io.StringIO()
    task = Progress(stream).task("copy")
    task.advance(3, file="a")
    assert stream.getvalue() == "copy 3 file a\n"


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress("train", 1, 2, loss=0.5)
        progress("train", 2, 2, loss=0.25)
        progress("read", 5, 0)
    assert "train" in stream.getvalue()
    assert "2/2" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.4, "59s"), (80, "1m20s"), (7500, "2h05m"), (-1, "0s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
