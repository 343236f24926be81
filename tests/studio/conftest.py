"""A workspace, a browser's client for it, and a run as the command line leaves it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from foreword.studio.settings import StudioSettings
from foreword.studio.studio_app import studio_app
from tests.runs.conftest import labelled_rows, request, save_tiny, write

ADDRESS = "http://127.0.0.1:8266"


class Browser:
    """A client that sends forms as the pages do."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/data").text)
        assert found
        return found[1]

    def post(self, path: str, fields: dict[str, Any] | None = None, **more: Any) -> Any:
        return self.client.post(path, data={"csrf": self.token(), **(fields or {})}, **more)

    def upload(self, name: str, content: str) -> str:
        """Upload a file; the name of the data set."""
        answer = self.post("/data", files={"file": (name, content.encode())}, follow_redirects=False)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"].rpartition("/")[2])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base."""
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny-llama", "llama")


@pytest.fixture
def browser(workspace: Path, tiny_base: Path) -> Iterator[Browser]:
    app = studio_app(StudioSettings(workspace, (tiny_base,)))
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield Browser(client)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A run's folder in a workspace, as a training that has ended leaves it."""
    from foreword.runs.train.train import train

    folder = tmp_path_factory.mktemp("trained") / "first"
    folder.mkdir()
    data = write(folder / "rows.csv", labelled_rows(60))
    train(request(data, str(tiny_base), folder / "run"))
    record = {"command": "train", "data": "rows", "base": str(tiny_base), "method": "prefix", "pid": 1, "started": 1.0}
    (folder / "command.json").write_text(json.dumps(record))
    (folder / "output").write_text('{"state": "measured"}')
    (folder / "log").write_text("load model 1/1\ntrain 3/35 learning_rate 0.05 loss 0.9374 eta 4s\n")
    return folder


@pytest.fixture
def run(browser: Browser, workspace: Path, trained: Path) -> Path:
    """A copy of that run in the browser's workspace, under the name ``first``."""
    target = workspace / "runs" / "first"
    shutil.copytree(trained, target)
    return target


Make = Callable[..., Any]
