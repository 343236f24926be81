"""A tiny base with a few forewords of each kind as files, and a client that talks to a server on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.artifact.store import save
from foreword.core.base.load import Base, base_of
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.serve.app.create_app import create_app
from foreword.serve.app.settings import ServeSettings
from foreword.serve.engine.engine import EngineLimits
from foreword.testing import byte_tokenizer, tiny, writer_for

LIMITS = EngineLimits(rows=4, length=96, step_tokens=32, queue=32)
WRITE = Task("generation", "Q: {{ prompt }}\nA:", "", "completion")
CHOOSE = Task("classification", "{{ text }}\nIs it so?", "", "label", verbalizer={"yes": " yes", "no": " no"})


def tiny_base(family: str = "llama", chat: bool = True) -> Base:
    """A tiny base whose tokenizer knows chats."""
    return base_of(tiny(family), byte_tokenizer(chat=chat))


def store(folder: Path, name: str, base: Base, value: Foreword, task: Task, **changes: Any) -> Path:
    """A ``.foreword`` file for ``base``."""
    record = BaseRecord(id="tiny", architecture=base.architecture, kind=base.kind, fingerprint=base.fingerprint)
    manifest = Manifest(base=record, method="prefix", task=task.to_json(), **changes)
    path = folder / f"{name}.foreword"
    save(path, value, manifest)
    return path


def prefix(base: Base, seed: int = 0) -> Foreword:
    """A prefix that is a little different for every seed."""
    value = writer_for("prefix", base.model).write().detach()
    generator = torch.Generator().manual_seed(seed)
    moved = {name: t + 0.3 * torch.randn(t.shape, generator=generator) for name, t in value.tensors().items()}
    return Foreword.from_tensors(moved)


@pytest.fixture(scope="session")
def base() -> Base:
    return tiny_base()


@pytest.fixture
def folder(tmp_path: Path, base: Base) -> Path:
    """Files: two that write, one that chooses, a text."""
    store(tmp_path, "writer", base, prefix(base, 1), WRITE)
    store(tmp_path, "other", base, prefix(base, 2), WRITE)
    store(tmp_path, "choose", base, prefix(base, 3), CHOOSE)
    store(tmp_path, "text", base, Foreword(text="Answer in a word.\n"), WRITE)
    return tmp_path


@contextmanager
def serving(base: Base, *files: Path, **settings: Any) -> Iterator[TestClient]:
    """A client of a server on ``base``; errors in it are answers, as for any client."""
    given = {"limits": LIMITS, "watch_seconds": 0.05, **settings}
    app = create_app(base, ServeSettings(files=files, **given))
    with TestClient(app, base_url="http://127.0.0.1:8265", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(base: Base, folder: Path) -> Iterator[TestClient]:
    with serving(base, folder) as made:
        yield made


Serving = Callable[..., Any]
