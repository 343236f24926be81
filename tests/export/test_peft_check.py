"""An export is read back by PEFT before it is written: what PEFT would leave out or answer otherwise is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.export.peft import export_peft
from foreword.testing import tiny, trained_for


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next"])
def test_low_rank_changes_of_a_mixture_that_peft_would_lose_are_refused(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    with pytest.raises(SettingsError, match="PEFT"):
        export_peft(trained_for("lora", model), None, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_a_soft_prompt_that_peft_cannot_run_is_refused(tmp_path: Path) -> None:
    model = tiny("distilbert")
    with pytest.raises(SettingsError, match="DistilBertModel"):
        export_peft(Foreword(prompt=torch.randn(3, 32)), None, tmp_path / "out", model)
    assert not (tmp_path / "out").exists()


def test_reading_back_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    model = tiny("llama")
    modules, weights = dict(model.named_modules()), {n: p.clone() for n, p in model.state_dict().items()}
    export_peft(trained_for("lora", model), None, tmp_path / "out", model)
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert not hasattr(model, "peft_config")


def test_without_peft_changes_of_renamed_layers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    llama, mixture = tiny("llama"), tiny("deepseek_v3")
    export_peft(trained_for("lora", llama), None, tmp_path / "llama", llama)
    with pytest.raises(SettingsError, match="pip install peft"):
        export_peft(trained_for("lora", mixture), None, tmp_path / "mixture", mixture)
