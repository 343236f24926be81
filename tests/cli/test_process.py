"""The command as a process of its own: start, Ctrl-C, and a reader that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

# A stand-in for the library that waits to be interrupted, or writes more than a pipe holds.
FAKE = """
import sys, time, types
run = types.ModuleType("foreword.api")
def doctor():
    print("ready", flush=True)
    time.sleep(30)
def ls(folder):
    return [{"file": "x" * 100}] * 20_000
run.doctor, run.ls = doctor, ls
sys.modules["foreword.api"] = run
from foreword.cli.main import main
raise SystemExit(main())
"""


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FAKE, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("words", [("doctor",), ("doctor", "--json")])
def test_ctrl_c_exits_130(words: tuple[str, ...]) -> None:
    with start(*words) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "foreword: interrupted\n"
    assert out == "" or json.loads(out)["exit_code"] == 130


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_goes_away_is_no_accident() -> None:
    with start("ls") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "file\n"
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], []])
def test_python_dash_m(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "foreword", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: foreword")
    assert done.stderr == ""
