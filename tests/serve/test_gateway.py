"""The gateway: the same API in front of another engine, which is a stand-in here that really restores states."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import DynamicCache

from foreword import api
from foreword.cli.main import main
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.errors import ForewordError, SettingsError
from foreword.export.llamacpp_state import decode_state, halves
from foreword.runs.use.use import generate
from foreword.serve.app.service import remote_of
from foreword.serve.app.settings import ServeSettings
from foreword.testing import writer_for
from tests.serve.conftest import WRITE, serving, store, tiny_base


def greedy(model: Any, cache: torch.Tensor | None, ids: list[int], count: int) -> list[int]:
    """Tokens behind keys and values ``[L, 2, H, P, D]``, by transformers alone; they end with the model's own end."""
    past = DynamicCache()
    for layer, (keys, values) in enumerate([] if cache is None else cache):
        past.update(keys[None], values[None], layer)
    out: list[int] = []
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), past_key_values=past, use_cache=True).logits
        ids = [int(logits[0, -1].argmax())]
        out += ids
    return out


class Engine(BaseHTTPRequestHandler):
    """llama-server and vLLM as far as the gateway meets them, on a base of transformers."""

    server: Any

    def do_GET(self) -> None:
        self._reply({"total_slots": 2, "data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/slots/"):
            self._restore(int(self.path.split("/")[2].partition("?")[0]), body["filename"])
        elif self.path == "/v1/completions":
            self._vllm(body)
        else:
            self._llamacpp(body)

    def _llamacpp(self, body: dict[str, Any]) -> None:
        state = self.server.states.get(body["id_slot"])
        if self.server.fault == "evicted":
            state = None
        length = 0 if state is None else len(state[1])
        used = body["cache_prompt"] and state is not None and body["prompt"][:length] == state[1]
        ids = body["prompt"][length:] if used else body["prompt"]
        tokens = greedy(self.server.base.model, state[0] if used else None, ids, body["n_predict"])
        self._reply({"tokens": tokens, "timings": {"cache_n": length if used else 0}})

    def _restore(self, slot: int, name: str) -> None:
        content = (self.server.folder / name).read_bytes()
        version, streams = struct.unpack_from("<I", content, 4)[0], 0
        cache, tokens = decode_state(content)
        streams = struct.unpack_from("<I", content, 12 + 4 * len(tokens))[0]
        site = next(iter(find_sites(self.server.base.model).sites.values()))
        f32 = len(content) >= cache.size * 4
        if (version, streams, f32) != (3, 2, True) or self.server.fault == "refused":
            self._reply({"error": "mismatch"}, 400)
            return
        heads = cache.reshape(*cache.shape[:3], site.heads, site.key_size)
        heads[:, 0] = halves(heads[:, 0], site.key_size)
        self.server.states[slot] = (torch.from_numpy(heads).permute(0, 1, 3, 2, 4), tokens)
        self._reply({"n_restored": len(tokens)})

    def _vllm(self, body: dict[str, Any]) -> None:
        name = body.get("kv_transfer_params", {}).get("foreword")
        cache = None if name is None else safetensors.torch.load_file(self.server.folder / f"{name}.safetensors")["kv"]
        length = 0 if cache is None else cache.shape[3]
        used = self.server.fault != "evicted"
        ids = body["prompt"][length:] if used else body["prompt"]
        tokens = greedy(self.server.base.model, cache if used else None, ids, body["max_tokens"])
        details = None if self.server.fault == "silent" else {"cached_tokens": length if used else 0}
        self.server.salts.append(body["cache_salt"])
        self._reply({"choices": [{"token_ids": tokens}], "usage": {"prompt_tokens_details": details}})

    def _reply(self, answer: dict[str, Any], code: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def engine(base: Base, tmp_path: Path) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        server.base, server.folder, server.states = base, tmp_path / "engine", {}  # type: ignore[attr-defined]
        server.fault, server.salts = "", []  # type: ignore[attr-defined]
        server.folder.mkdir()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def behind(base: Base, folder: Path, engine: Any, kind: str) -> Any:
    return serving(base, folder, engine=kind, url=f"http://127.0.0.1:{engine.server_port}", engine_dir=engine.folder)


def ask(client: Any, model: str, text: str = "hello", **body: Any) -> Any:
    given = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **body}
    return client.post("/v1/chat/completions", json=given)


def content(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
def test_answers_are_those_of_this_engine(kind: str, engine: Any, base: Base, folder: Path) -> None:
    with behind(base, folder, engine, kind) as client:
        for name in ("writer", "other", "text", "writer"):
            assert content(ask(client, name)) == generate(
                folder / f"{name}.foreword", "hello", base=base, max_new_tokens=8
            )
        usage = ask(client, "writer").json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 5
        pieces = ask(client, "writer", stream=True).text
        assert pieces.endswith("data: [DONE]\n\n")
        labels = client.post("/v1/classify", json={"model": "choose", "input": "x"}).json()
        assert set(labels["data"][0]["probabilities"]) == {"yes", "no"}
        assert content(ask(client, "base", temperature=0)) is not None
    assert not list(engine.folder.glob("*probe*"))
    if kind == "vllm":
        assert len(set(engine.salts)) == 4
        assert all(salt.startswith("foreword:") for salt in engine.salts)


def test_many_at_once_are_never_mixed_up(engine: Any, base: Base, folder: Path) -> None:
    expected = {
        name: generate(folder / f"{name}.foreword", "hello", base=base, max_new_tokens=8)
        for name in ("writer", "other", "text")
    }
    wrong: list[str] = []
    with behind(base, folder, engine, "llamacpp") as client:

        def run(name: str) -> None:
            wrong.extend(name for _ in range(4) if content(ask(client, name)) != expected[name])

        threads = [threading.Thread(target=run, args=(name,)) for name in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("kind", "fault"), [("llamacpp", "evicted"), ("llamacpp", "refused"), ("vllm", "evicted"), ("vllm", "silent")]
)
def test_an_answer_without_the_foreword_is_not_given_out(
    kind: str, fault: str, engine: Any, base: Base, folder: Path
) -> None:
    with behind(base, folder, engine, kind) as client:
        engine.fault = fault
        answer = ask(client, "writer")
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "engine_fault"
        engine.fault = ""
        content(ask(client, "writer"))


def test_a_state_file_that_is_gone_is_an_error(engine: Any, base: Base, folder: Path) -> None:
    with behind(base, folder, engine, "llamacpp") as client:
        content(ask(client, "writer"))
        for path in engine.folder.glob("foreword-*.bin"):
            path.write_bytes(path.read_bytes()[:100])
        assert ask(client, "writer").status_code == 502


def test_what_does_not_stand_in_a_cache_is_refused(engine: Any, base: Base, folder: Path) -> None:
    store(folder, "lora", base, writer_for("lora", base.model).write().detach(), WRITE)
    for kind in ("llamacpp", "vllm"):
        with behind(base, folder, engine, kind) as client:
            assert ask(client, "lora").status_code == 400
            assert ask(client, "writer", logprobs=True).status_code == 400


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
def test_an_engine_with_another_base_is_refused(kind: str, engine: Any, base: Base, folder: Path) -> None:
    engine.base = tiny_base("llama")
    with torch.no_grad():
        for parameter in engine.base.model.parameters():
            parameter.copy_(parameter.flip(0))
    with pytest.raises(SettingsError, match="like another base"), behind(base, folder, engine, kind):
        pass


def test_a_gateway_needs_an_engine_that_answers_and_takes_states(engine: Any, base: Base, tmp_path: Path) -> None:
    def of(**settings: Any) -> None:
        remote_of(ServeSettings(engine="llamacpp", **settings), base)

    url = f"http://127.0.0.1:{engine.server_port}"
    with pytest.raises(SettingsError, match="address and the folder"):
        of(url=url)
    with pytest.raises(SettingsError, match="not an address"):
        of(url="file:///etc/passwd", engine_dir=tmp_path)
    with pytest.raises(SettingsError, match="no llama-server answers"):
        of(url="http://127.0.0.1:9", engine_dir=tmp_path)
    engine.fault = "refused"
    with pytest.raises(ForewordError, match="takes no state"):
        of(url=url, engine_dir=engine.folder)


def test_the_commands_flags_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(api, "serve", lambda files, **settings: given.update(settings) or {}, raising=False)
    flags = ["--engine", "vllm", "--url", "http://127.0.0.1:1", "--engine-dir", str(tmp_path), "--shadow", "a=b"]
    flags += ["--request-log", str(tmp_path / "log.db"), "--log-days", "3", "--calibrate", "a=rows.csv"]
    assert main(["serve", *flags, "--json"]) == 0
    expected = {
        "engine": "vllm", "url": "http://127.0.0.1:1", "engine_dir": tmp_path, "shadows": ("a=b",),
        "request_log": tmp_path / "log.db", "log_days": 3, "calibrate": ("a=rows.csv",),
    }  # fmt: skip
    assert {name: given.get(name) for name in expected} == expected
    ServeSettings(**{name: value for name, value in given.items() if name in expected})
