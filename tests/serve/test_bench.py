"""`bench/serve.py`: a whole table on a tiny base."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.runs.conftest import save_tiny


def test_the_table_has_a_line_for_everything_that_is_asked_of_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "bench"))
    base = save_tiny(tmp_path / "llama", "llama")
    given = f"--base {base} --rounds 1 --tokens 2 --rows 4 --files 3 --requests 4 --equal 12 --json"
    monkeypatch.setattr(sys, "argv", ["serve.py", *given.split(), "--only", "mixed,static,zipf,classify,equal,http"])
    importlib.import_module("serve").main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(lines) == 8
    equal = next(line for line in lines if "in company" in line["what"])
    assert (equal["value"], equal["told"]) == (1.0, "12 of 12")
