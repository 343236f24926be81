"""A run's foreword as a server of its own, started and stopped from the page, and asked from it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from foreword.errors import ForewordError, SettingsError
from foreword.studio import processes
from foreword.studio.run_folders import RunFolder

SYSTEMS = ("no-prompt", "prompt", "foreword")
_JOB = "serve-process"
_SECONDS = 120.0
_STOP_SECONDS = 10.0
State = Literal["off", "starting", "on", "failed"]
# What answers on this machine is never behind a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def job(run: RunFolder) -> Path:
    """The folder of the server's process."""
    return run.folder / _JOB


def switch_on(run: RunFolder) -> None:
    """Start the server. Raises SettingsError where the run has no foreword, or it is on already."""
    if run.file is None:
        raise SettingsError("this run has no foreword", hint="wait until it has finished")
    folder = job(run)
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / "systems", ignore_errors=True)
    processes.log_path(folder).unlink(missing_ok=True)
    port = _free_port()
    base = str(run.record.get("base", ""))
    arguments = [str(run.file), str(folder / "systems"), str(port), base]
    processes.start(folder, "foreword.studio.serve_process", arguments, port=port)


def switch_off(run: RunFolder) -> None:
    """Stop the server, and wait a little for it to end; answers that are being written are finished."""
    processes.stop(job(run), signal.SIGTERM)
    began = time.monotonic()
    while processes.runs(job(run)) and time.monotonic() - began < _STOP_SECONDS:
        time.sleep(0.1)


def state(run: RunFolder) -> State:
    """Whether the server answers."""
    folder = job(run)
    if not processes.runs(folder):
        return "failed" if "foreword: " in processes.log_end(folder) else "off"
    try:
        with _opener.open(f"{address(run)}/healthz", timeout=1):
            return "on"
    except OSError:
        return "starting"


def address(run: RunFolder) -> str:
    """Where the server answers."""
    return f"http://127.0.0.1:{processes.record(job(run)).get('port', 0)}"


def systems(run: RunFolder) -> list[str]:
    """The systems that the server has."""
    found = _asked(run, "/v1/models", None)
    names = {str(model["id"]) for model in json.loads(found.read())["data"]}
    return [name for name in SYSTEMS if name in names]


def classify(run: RunFolder, system: str, fields: dict[str, str]) -> dict[str, float]:
    """The probability of each label."""
    with _asked(run, "/v1/classify", {"model": system, "input": fields}) as answer:
        shares: dict[str, float] = json.loads(answer.read())["data"][0]["probabilities"]
        return shares


def tag(run: RunFolder, system: str, fields: dict[str, str]) -> list[tuple[str, str]]:
    """Each word with its tag."""
    with _asked(run, "/v1/tag", {"model": system, "input": fields}) as answer:
        row = json.loads(answer.read())["data"][0]
        return list(zip(row["words"], row["tags"], strict=True))


def write(run: RunFolder, system: str, fields: dict[str, str]) -> Iterator[str]:
    """An answer as it is written, piece by piece."""
    asked = {"model": system, "fields": fields, "stream": True}
    with _asked(run, "/v1/chat/completions", asked) as answer:
        for line in answer:
            text = line.decode().strip()
            if not text.startswith("data: ") or text == "data: [DONE]":
                continue
            event = json.loads(text[6:])
            if "error" in event:
                yield f"\n{event['error'].get('message', '')}"
                return
            for choice in event.get("choices", ()):
                yield choice.get("delta", {}).get("content") or ""


def _asked(run: RunFolder, path: str, body: dict[str, Any] | None) -> Any:
    """The server's answer. Raises ForewordError where it refuses, or is not there."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address(run) + path, data, {"Content-Type": "application/json"})
    try:
        return _opener.open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        raise ForewordError(_message(error.read())) from error
    except OSError as error:
        raise ForewordError("the server does not answer", hint="switch it on first") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the server refused"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
