"""Tiny bases in folders, and small data files."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers

from foreword.settings.schema import TaskOptions, TrainRequest
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer

TASK = {"guidance": "Say yes or no, please. Choose one: no, yes.\n", "template": "{{ text }}:"}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny random base of a family (``chat``: a Llama with a chat template); made once."""

    @cache
    def folder(family: str) -> str:
        spec = FAMILIES["llama" if family == "chat" else family]
        longer = {} if family == "t5" else {"max_position_embeddings": 512}
        config = getattr(transformers, spec.config)(**{**spec.settings, **longer})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, spec.model)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)
        path = tmp_path_factory.mktemp("base") / family
        model.save_pretrained(path)
        byte_tokenizer(family == "chat").save_pretrained(path)
        return str(path)

    return folder


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """60 rows ``text,label``: an x among the letters means yes, a z no."""
    dice, rows = random.Random(0), []
    for i in range(60):
        letters = [dice.choice("abcdefghijklmnop") for _ in range(8)]
        letters[dice.randrange(8)] = "zx"[i % 2]
        rows.append({"text": "".join(letters), "label": ["no", "yes"][i % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "labelled.csv", index=False)
    return str(tmp_path / "labelled.csv")


@pytest.fixture
def paired(tmp_path: Path) -> str:
    """30 rows ``prompt,completion``."""
    dice = random.Random(0)
    made = ["".join(dice.choice("abcdefghijklmnop") for _ in range(7)) for _ in range(30)]
    rows = [{"prompt": text, "completion": text[:3]} for text in made]
    pd.DataFrame(rows).to_csv(tmp_path / "paired.csv", index=False)
    return str(tmp_path / "paired.csv")


@pytest.fixture
def request_of() -> Callable[..., TrainRequest]:
    """A request with the tests' prompt."""

    def make(data: object, base: object, folder: Path, **more: Any) -> TrainRequest:  # type: ignore[name-defined]
        task: dict[str, Any] = {**TASK, **more.pop("task", {})}  # type: ignore[name-defined]
        options = TaskOptions(**task)
        return TrainRequest(data, base, folder, task_options=options, **more)  # type: ignore[arg-type]

    return make
