"""Tiny bases in folders, small data files with something to learn, and requests that train in a second."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from foreword.runs.workers.worker import STATE
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer

_LENGTH = {"gpt2": "n_positions"}


def save_tiny(folder: Path, family: str, seed: int = 0, chat: bool = False) -> Path:
    """A tiny random base that reads 512 tokens, with the byte tokenizer, as ``from_pretrained`` finds it."""
    spec = FAMILIES[family]
    longer = {} if family == "t5" else {_LENGTH.get(family, "max_position_embeddings"): 512}
    make_config, make_model = spec.parts()
    config = make_config(**{**spec.settings, **longer})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    byte_tokenizer(chat).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny base of a family; made once."""

    @cache
    def folder(family: str) -> str:
        return str(save_tiny(tmp_path_factory.mktemp("base") / family, family))

    return folder


def labelled_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Eight random letters; an x among them means yes, a z no."""
    dice = random.Random(seed)
    out = []
    for i in range(count):
        letters = [dice.choice("abcdefghijklmnop") for _ in range(8)]
        letters[dice.randrange(8)] = "zx"[i % 2]
        out.append({"text": "".join(letters), "label": ["no", "yes"][i % 2]})
    return out


def paired_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    dice = random.Random(seed)
    made = ["".join(dice.choice("abcdefghijklmnop") for _ in range(7)) for _ in range(count)]
    return [{"prompt": text, "completion": text[:3]} for text in made]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """60 rows ``text,label``."""
    return write(tmp_path / "labelled.csv", labelled_rows(60))


@pytest.fixture
def paired(tmp_path: Path) -> str:
    """30 rows ``prompt,completion``."""
    return write(tmp_path / "paired.csv", paired_rows(30))


SETTINGS: dict[str, Any] = {"per_device_train_batch_size": 8, "num_train_epochs": 2.0, "learning_rate": 5e-2}
TASK: dict[str, Any] = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}
PAIR_TASK: dict[str, Any] = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}


def request(
    data: object,
    base: str,
    folder: Path,
    *,
    task: dict[str, Any] = TASK,
    settings: dict[str, Any] | None = None,
    **more: Any,
) -> TrainRequest:
    """A short run."""
    return TrainRequest(
        data=data,
        base=base,
        output_dir=folder,
        settings=TrainSettings(**{**SETTINGS, **(settings or {})}),
        task_options=TaskOptions(**task),
        **more,
    )


@pytest.fixture(scope="session", name="request_of")
def _request_of() -> Callable[..., TrainRequest]:
    return request


@pytest.fixture(scope="session")
def rows_of() -> Callable[[str, int], list[dict[str, str]]]:
    """``count`` rows of a kind of task: ``words``, ``head`` or ``pairs``."""
    return lambda task, count: paired_rows(count) if task == "pairs" else labelled_rows(count)


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama whose tokenizer has a chat template."""
    return str(save_tiny(tmp_path_factory.mktemp("chat") / "llama", "llama", chat=True))


def kill_one(folders: list[Path], killed: list[int]) -> None:
    """Kill the first worker that says where it is."""
    for _ in range(1200):
        for folder in folders:
            state = folder / STATE
            if state.exists() and list(folder.rglob("checkpoint.safetensors")):
                pid = json.loads(state.read_text())["pid"]
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.05)
