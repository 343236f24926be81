"""A server on a real port: clients that go away, what runs when it stops, many clients at once, and the commands."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from foreword.cli.main import main
from foreword.core.base.load import Base
from foreword.errors import SettingsError
from foreword.serve.app import run_server
from foreword.serve.app.create_app import create_app
from foreword.serve.app.settings import ServeSettings
from foreword.serve.engine.conversation import Conversation
from tests.runs.conftest import save_tiny
from tests.serve.conftest import LIMITS, WRITE, prefix, store


@contextmanager
def on_a_port(base: Base, *files: Path, **settings: Any) -> Iterator[tuple[httpx.Client, Any, uvicorn.Server]]:
    """A client, the application and its server."""
    given = {"limits": LIMITS, "watch_seconds": 0.05, **settings}
    app = create_app(base, ServeSettings(files=files, **given))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client, app, server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def eventually(holds: Any) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to be")


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "writer", "prompt": "hello", "max_tokens": 8, **changes}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_row(base: Base, folder: Path, stream: bool) -> None:
    with on_a_port(base, folder) as (client, app, _):
        engine = app.state.service.engine
        rows = engine.running.rows
        gate = threading.Event()
        step = engine.running.step

        def slow() -> None:
            gate.wait(0.02)
            step()

        engine.running.step = slow
        long = body(max_tokens=80, min_tokens=80, stream=stream)
        if stream:
            with client.stream("POST", "/v1/completions", json=long) as answer:
                next(answer.iter_text())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/completions", json=long, timeout=0.3)
        eventually(lambda: not rows)
        gate.set()
        assert engine.stats.tokens_written < 80
        assert client.post("/v1/completions", json=body()).status_code == 200


def test_a_server_that_stops_finishes_what_runs(base: Base, folder: Path) -> None:
    with on_a_port(base, folder) as (client, app, server):
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/v1/completions", json=body(max_tokens=60, min_tokens=60)))
        )
        asking.start()
        eventually(lambda: app.state.service.engine.running.rows)
        server.should_exit = True
        asking.join(60)
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 60


def test_a_request_that_takes_too_long_is_ended(base: Base, folder: Path) -> None:
    with on_a_port(base, folder, request_seconds=0.2) as (client, app, _):
        engine = app.state.service.engine
        step = engine.running.step
        engine.running.step = lambda: (time.sleep(0.05), step())
        long = body(max_tokens=80, min_tokens=80)
        assert client.post("/v1/completions", json=long).status_code == 504
        events = client.post("/v1/completions", json={**long, "stream": True}).text
        assert '"code": "timeout"' in events
        eventually(lambda: not engine.running.rows)


def test_mixed_load_answers_or_refuses_every_request_and_leaves_nothing(base: Base, folder: Path) -> None:
    """Vanishing clients, bad JSON, huge prompts, wrong names, forewords added and removed, all at once."""
    data = (folder / "writer.foreword").read_bytes()
    codes: list[int] = []
    end = time.monotonic() + 4

    def load(seed: int, url: httpx.URL) -> None:
        rng = random.Random(seed)
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.monotonic() < end:
                codes.append(_anything(client, rng, data))

    with on_a_port(base, folder) as (client, app, _):
        alone = client.post("/v1/completions", json=body()).json()["choices"]
        threads = [threading.Thread(target=load, args=(seed, client.base_url)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        engine = app.state.service.engine
        eventually(lambda: not engine.running.rows and not len(engine.waiting))
        assert client.post("/v1/completions", json=body()).json()["choices"] == alone
        assert not engine.running.places._users
    assert len(codes) > 20
    assert {200, 400, 404} <= set(codes) <= {0, 200, 201, 400, 404, 413, 429}


def _anything(client: httpx.Client, rng: random.Random, data: bytes) -> int:
    kind = rng.randrange(8)
    if kind == 0:
        return client.post("/v1/completions", content=b"{", headers={"Content-Type": "application/json"}).status_code
    if kind == 1:
        return client.post("/v1/completions", json=body(prompt="long " * rng.choice((50, 5000)))).status_code
    if kind == 2:
        return client.post("/v1/completions", json=body(model="nobody")).status_code
    if kind == 3:
        with client.stream("POST", "/v1/completions", json=body(stream=True, max_tokens=40)) as answer:
            next(answer.iter_text(), "")
            return 0
    if kind == 4:
        name = f"extra{rng.randrange(3)}"
        client.post("/v1/forewords", params={"name": name}, content=data)
        return client.delete(f"/v1/forewords/{name}").status_code
    if kind == 5:
        return client.post("/v1/classify", json={"model": "choose", "input": ["a", "b"]}).status_code
    model = rng.choice(["writer", "other", "text", "base"])
    answer = client.post("/v1/completions", json=body(model=model, n=rng.randrange(1, 3), temperature=0))
    return answer.status_code


def test_speakers_answer_side_by_side_and_remember(base: Base, folder: Path, tmp_path: Path) -> None:
    files = [folder / "writer.foreword", folder / "choose.foreword"]
    with Conversation(base, files, max_tokens=4) as talk:
        assert [speaker.name for speaker in talk.speakers] == ["base", "writer", "choose"]
        pieces = ["", "", ""]

        def show(number: int, piece: str) -> None:
            pieces[number] += piece

        answers = talk.say("hello", show)
        assert answers == pieces
        assert answers[2].split(" (")[0] in ("yes", "no")
        assert [len(speaker.turns) for speaker in talk.speakers] == [2, 2, 2]
        assert talk.save(tmp_path / "talk.jsonl") == 3
        saved = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text().splitlines()]
        assert saved[1]["messages"][0] == {"role": "user", "content": "hello"}
        talk.reset()
        assert talk.say("hello") == answers


def test_a_long_conversation_loses_its_oldest_messages_or_is_refused(base: Base, folder: Path) -> None:
    with Conversation(base, [], max_tokens=4) as talk:
        for _ in range(6):
            talk.say("some words to fill")
        speaker = talk.speakers[0]
        assert speaker.dropped >= 2
        assert len(speaker.turns) + speaker.dropped == 12
        assert speaker.turns[0]["role"] == "user"
    with Conversation(base, [], max_tokens=4, full="refuse") as talk, pytest.raises(SettingsError, match="longer"):
        for _ in range(6):
            talk.say("some words to fill")


def test_the_chat_command_answers_lines(
    tmp_path: Path, base_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    lines = "hello\n/save saved.jsonl\n/nothing\n/reset\nhello\n/quit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    monkeypatch.chdir(tmp_path)
    assert main(["chat", "--base", str(base_folder), "--max-tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert out.count("base: ") == 2
    assert "1 conversations in saved.jsonl" in out
    assert "no such command" in out
    assert (tmp_path / "saved.jsonl").exists()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "llama", "llama", chat=True)


def test_the_serve_command_serves_until_it_is_stopped(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from foreword.core.base.load import load_base

    loaded = load_base(base_folder)
    store(tmp_path, "writer", loaded, prefix(loaded), WRITE)
    seen: dict[str, Any] = {}

    def run(self: uvicorn.Server) -> None:
        from fastapi.testclient import TestClient

        with TestClient(self.config.app, base_url="http://127.0.0.1:8265") as client:  # type: ignore[arg-type]
            seen["models"] = [model["id"] for model in client.get("/v1/models").json()["data"]]

    monkeypatch.setattr(run_server.uvicorn.Server, "run", run)
    given = [
        "serve",
        str(tmp_path),
        "--base",
        str(base_folder),
        "--rows",
        "2",
        "--length",
        "64",
        "--dtype",
        "bfloat16",
        "--json",
    ]
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert seen["models"] == ["base", "writer"]
    assert json.loads(out)["url"] == "http://127.0.0.1:8265"
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {"serving", "added", "request"} <= {event["event"] for event in events}


def test_the_serve_command_makes_keys_and_refuses_open_addresses(
    tmp_path: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    assert main(["serve", "--new-key", "me", "--keys", str(keys), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"].startswith("fw-")
    assert main(["serve", "--base", str(base_folder), "--host", "0.0.0.0"]) == 2
    assert main(["serve", str(tmp_path / "nothing.foreword")]) == 2
    assert main(["serve", "--new-key", "me"]) == 2
    assert main(["serve"]) == 2


def test_a_signal_stops_the_command_in_good_order(base_folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "foreword", "serve", "--base", str(base_folder), "--port", str(port), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        # The line comes before the port is open.
        assert any('"serving"' in line for line in process.stderr)
        eventually(lambda: _answers(port))
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["tokens_written"] == 0


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False
