"""Progress: lines off a terminal, a bar on one, and an eta that is right."""

from __future__ import annotations

import io
import re

import pytest

from foreword.progress import Progress, duration, showing


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


def test_a_bar_fits_eighty_columns_and_shows_one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.plan("plan: about 4m", 240)
        for step in range(1, 5):
            progress(
                "lora seed 13, a long name: train", step, 15000, learning_rate=0.001, loss=0.5, tokens_per_second=9
            )
            progress("evaluate on dev", step, 4, accuracy=0.75)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line for part in text.split("\n") for line in part.split("\r")]
    assert max(map(len, lines)) <= 80
    assert "plan: about 4m" in lines[0]
    assert "loss 0.5" in text
    assert "tokens_per_second" not in text
    assert "in all" in text
    assert text.count("evaluate on dev        4/4") == 1


def test_the_figure_on_dev_stays_once_there_is_one() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress("train", 1, 9, loss=0.5)
        progress("train", 2, 9, **{"dev accuracy": 0.75})
        progress("train", 3, 9, loss=0.4)
        assert progress._states["train"].figure == "dev accuracy 0.75"


def test_a_notebook_gets_its_own_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("foreword.progress.in_notebook", lambda: True)
    with Progress() as progress:
        progress("train", 1, 2, loss=0.5)
        progress("train", 2, 2, loss=0.25)
    assert "train" in capsys.readouterr().err


def test_work_is_shown_where_nobody_else_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(None) as report:
        report("predict", 1, 1)
    with showing(False) as report:
        report("silence", 1, 1)
    assert capsys.readouterr().err == "predict 1/1\n"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.4, "59s"), (80, "1m20s"), (7500, "2h05m"), (-1, "0s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
