"""Push and load: a folder to look at, and the hub's HTTP API on the loopback interface."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from ruamel.yaml import YAML

from foreword import api
from foreword.artifact.hub import local_path
from foreword.artifact.manifest import BaseRecord, Manifest, MetricRecord
from foreword.artifact.store import load, save
from foreword.cli.main import main
from foreword.core.inject.value import equal
from foreword.errors import BaseError, FileFormatError, SettingsError
from foreword.export.model_card import Licences, model_card
from tests.export.conftest import lora, prefix

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload and a download meet."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.path == "/api/repos/create":
            return self._json({"url": f"{self.server.url}/owner/name"})
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if "/commit/" not in self.path:
            return self._json({})
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self._json({"commitUrl": f"{self.server.url}/owner/name/commit/{COMMIT}", "commitOid": COMMIT})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.rpartition("/")[2])
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._send(200, content, {"ETag": '"tag"', "X-Repo-Commit": COMMIT})

    def _json(self, answer: dict[str, Any]) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.asked, server.files = [], {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_pushed_and_loaded_it_is_the_same_foreword(
    hub: Any, base: Any, file_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(prefix(base))
    flags = ["--base-model", "owner/tiny", "--license", "mit", "--json"]
    assert main(["push", str(file), "owner/name", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["files"], told["url"]) == (["README.md", "model.foreword"], f"{hub.url}/owner/name/commit/{COMMIT}")
    assert b"private" in hub.asked[0][2]
    assert {who for _, who, _ in hub.asked} == {"Bearer hf_test"}
    value, manifest = api.load("hf://owner/name")
    assert equal(value, load(file)[0])
    assert (manifest.base.id, manifest.license) == ("owner/tiny", "mit")
    assert base.id.encode() not in hub.files["model.foreword"] + hub.files["README.md"]
    assert api.verify("hf://owner/name", base=base).rows


def test_what_the_hub_refuses_is_an_error_with_a_hint(
    hub: Any, base: Any, file_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BaseError, match="cannot be fetched"):
        api.load("hf://owner/nothing")
    hub.shutdown()
    hub.server_close()
    assert main(["push", str(file_of(prefix(base))), "owner/name", "--base-model", "o/n"]) == 1
    assert "--output-dir" in capsys.readouterr().err


def test_a_folder_gets_card_and_file_and_nothing_is_sent(
    hub: Any, base: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    flags = ["--output-dir", str(tmp_path / "out"), "--base-model", "owner/tiny", "--data-license", "CC0"]
    assert main(["push", str(file_of(lora(base))), "owner/name", *flags]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "model.foreword"]
    assert hub.asked == []
    assert "| the data | CC0 |" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_a_base_that_only_this_machine_knows_is_not_pushed(
    base: Any, file_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(file_of(prefix(base))), "owner/name"]) == 2
    assert "--base-model" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["name", "a/b/c", "../x", "owner/..", "-/-/", "a b/c"])
def test_only_a_repositorys_name_is_pushed_to(name: str, base: Any, file_of: Callable[..., Path]) -> None:
    assert main(["push", str(file_of(prefix(base))), "--base-model", "o/n", "--", name]) == 2


@pytest.mark.parametrize(
    "name", ["hf://owner", "hf://a/b/c.bin", "hf://a/b/../c.foreword", "hf://a/b@x y", "hf:a/b", "hf://../b"]
)
def test_what_names_no_file_on_the_hub_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        local_path(name)


def test_the_card_tells_figures_with_intervals_and_what_is_not_stated(base: Any) -> None:
    figures = {"accuracy": MetricRecord(value=0.91, low=0.88, high=0.94, level=0.95, rows=200)}
    manifest = Manifest(
        base=BaseRecord(id="owner/tiny", architecture="A", kind="decoder"), method="prefix", metrics=figures,
        task={"kind": "classification", "template": "```\n{{ text }}", "verbalizer": {"yes|no": " y"}},
        data_lock={"train": {"rows": 10}, "test": {"rows": 200}}, notes="<script>alert(1)</script>",
    )  # fmt: skip
    card = model_card(prefix(base), manifest, "owner/name", Licences(foreword="mit"))
    front = YAML(typ="safe").load(card.split("---")[1])
    assert (front["base_model"], front["license"], front["pipeline_tag"]) == (
        "owner/tiny", "mit", "text-classification",
    )  # fmt: skip
    assert "| accuracy | 0.91 | 0.88 to 0.94 (95%) | 200 |" in card
    assert "| the data | not stated |" in card
    assert "train 10, test 200" in card
    assert "````text\n```" in card
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert 'foreword.load("hf://owner/name")' in card
    assert "was not evaluated" in model_card(
        prefix(base), manifest.model_copy(update={"metrics": {}}), "o/n", Licences()
    )


def test_a_pushed_file_is_read_as_one_that_nobody_vouches_for(hub: Any) -> None:
    hub.files["model.foreword"] = b"\x80\x04pickle"
    with pytest.raises(FileFormatError):
        api.load("hf://owner/name")


def test_a_path_stays_what_it_is(base: Any, tmp_path: Path) -> None:
    manifest = Manifest(base=BaseRecord(id="o/n", architecture="A", kind="decoder"), method="prefix", task={})
    save(tmp_path / "x.foreword", prefix(base), manifest)
    assert local_path(tmp_path / "x.foreword") == tmp_path / "x.foreword"
