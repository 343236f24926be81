"""Sampling and augmentation in whole runs: they are off by default, seen in the report, and resumed bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from foreword import api
from foreword.artifact.store import load
from foreword.core.base.load import load_base
from foreword.errors import Interrupted, SettingsError
from foreword.settings.schema import TrainRequest
from foreword.training import side_by_side

Requests = Callable[..., TrainRequest]
FORMS = {"augment": ("case", "dropout"), "augment_dropout": 0.2}


def test_what_was_changed_and_what_it_was_worth_is_told(
    request_of: Requests, labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {**FORMS, "sampling": "difficulty", "ablate": True, "num_train_epochs": 1.0}
    result = api.train(request_of(labelled, base("llama"), tmp_path / "run", settings=settings))
    course = result.course
    assert course["sampling"] == "difficulty"
    assert 0 < course["rows_changed"] <= course["of_rows"] == result.rows["train"]
    assert course["words_changed"] >= course["rows_changed"]
    assert course["ablation"]["with"] == result.dev or result.outcome == "text"
    assert course["ablation"]["difference"]["rows"] == result.rows["dev"]
    assert "training rows were varied (case, dropout;" in result.text
    assert "on dev" in result.text
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["rows"] == course


def test_forms_that_the_base_reads_alike_are_told(
    request_of: Requests, labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    uncased = load_base(base("llama"))
    uncased.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    settings = {"augment": ("case",), "num_train_epochs": 1.0, "learning_rate": 1e-2}
    result = api.train(request_of(labelled, uncased, tmp_path / "run", settings=settings))
    assert result.course["rows_read_alike"] == result.course["rows_changed"] > 0
    assert f"the base reads {result.course['rows_read_alike']} of them as they were" in result.text


def test_without_settings_nothing_is_told(
    request_of: Requests, labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    result = api.train(request_of(labelled, base("llama"), tmp_path / "run", settings={"max_steps": 1}))
    assert result.course == {}
    assert "varied" not in result.text


def test_a_resumed_run_learns_from_the_same_forms(
    request_of: Requests, labelled: str, base: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**FORMS, "sampling": "balanced", "save_steps": 1}
    whole = api.train(request_of(labelled, base("llama"), tmp_path / "whole", settings=settings))
    seen = 0

    def stop(self: Any, step: int) -> bool:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return False

    with monkeypatch.context() as patch:
        patch.setattr(side_by_side.Trial, "due", stop)
        with pytest.raises(Interrupted):
            api.train(request_of(labelled, base("llama"), tmp_path / "parts", settings=settings))
    parts = api.resume(tmp_path / "parts")
    assert load(whole.file)[0].digest() == load(parts.file)[0].digest()
    assert whole.course == parts.course


@pytest.mark.parametrize(
    "settings", [{"sampling": "balanced"}, {"augment": ("nonsense",)}, {"ablate": True}, {"augment": ("synonyms",)}]
)
def test_what_cannot_be_is_refused_before_a_base_is_loaded(
    request_of: Requests, paired: str, tmp_path: Path, settings: dict[str, Any]
) -> None:
    task = {"guidance": "Begin.\n", "template": "{{ prompt }}:"}
    with pytest.raises(SettingsError):
        api.train(request_of(paired, str(tmp_path / "no-base-here"), tmp_path / "run", task=task, settings=settings))
