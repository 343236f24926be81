"""``foreword export --verify``: golden rows on an engine, with a small program in an engine's stead."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.cli.main import main
from foreword.errors import ForewordError, SettingsError
from foreword.export import replay
from tests.export.conftest import full, lora, prefix, prompt

SERVER = """#!{python}
import http.server, json, os, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, answer, code=200):
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def do_GET(self):
        self.reply({{"status": "ok"}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if ".v4." in body.get("filename", ""):
            return self.reply({{"error": "version"}}, 400)
        self.reply({{"n_restored": 3, "tokens": {tokens}, "timings": {{"cache_n": {used}}}}})
    def log_message(self, *args):
        pass
open({pids!r}, "w").write(str(os.getpid()))
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_a_merged_model_is_replayed_in_transformers(
    base: Any,
    file_of: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--output-dir", str(tmp_path / "out"), "--verify", "--json"]
    assert main(["export", str(file_of(full(base))), "--to", "merged", *flags]) == 0
    verified = json.loads(capsys.readouterr().out)["verified"]
    assert verified["engine"].startswith("transformers ")
    assert (verified["rows"], verified["equal"], verified["different"]) == (2, 2, [])


def test_an_adapter_is_replayed_in_peft(base: Any, file_of: Callable[..., Path], tmp_path: Path) -> None:
    told = api.export(file_of(lora(base)), tmp_path / "out", format="peft", base=base, verify=True)
    assert told["verified"].engine.startswith("peft ")
    assert "2 of 2 golden rows agree on peft" in str(told["verified"])


def test_an_engine_that_is_missing_is_named_and_nothing_is_written(
    base: Any, file_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(replay, "_has", lambda python, module: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    flags = ["--output-dir", str(tmp_path / "out"), "--verify", "--set", f"gguf={tmp_path}/m.gguf"]
    assert main(["export", str(file_of(prompt(base))), "--to", "llamacpp", *flags]) == 2
    assert "install llama-cpp-python" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(SettingsError, match="cannot be run"):
        api.export(file_of(lora(base)), tmp_path / "out", base=base, verify=str(tmp_path / "no"))


def test_an_engine_that_fails_shows_its_last_words(
    base: Any,
    file_of: Callable[..., Path],
    tmp_path: Path,
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho out of memory >&2\nexit 3\n')
    python.chmod(0o755)
    with pytest.raises(ForewordError, match="it ended with 3") as problem:
        api.export(file_of(lora(base)), tmp_path / "out", base=base, verify=str(python))
    assert "out of memory" in str(problem.value)


@pytest.mark.parametrize("used", [3, 0])
def test_llama_server_on_the_path_is_started_asked_and_stopped(
    used: int,
    base: Any,
    file_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, pids = tmp_path / "llama-server", tmp_path / "pids"
    server.write_text(SERVER.format(python=sys.executable, tokens=[7] * 8, used=used, pids=str(pids)))
    server.chmod(0o755)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(replay, "_has", lambda python, module: False)
    monkeypatch.setenv("LLAMA_SERVER", str(server))
    arguments: dict[str, Any] = {
        "format": "llamacpp", "settings": {"gguf": str(tmp_path / "m.gguf")}, "base": base, "verify": True,
    }  # fmt: skip
    if used:
        verified = api.export(file_of(prefix(base)), tmp_path / "out", **arguments)["verified"]
        assert (verified.engine, verified.rows) == ("llama-server (state version 3)", 2)
    else:
        with pytest.raises(ForewordError, match="did not use the prefix"):
            api.export(file_of(prefix(base)), tmp_path / "out", **arguments)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)
