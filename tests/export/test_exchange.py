"""The commands export and import: a learned foreword to PEFT and back, and checkpoints that know of no task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from foreword import api
from foreword.artifact.store import load, save
from foreword.cli.main import main
from foreword.core.inject.value import equal
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.testing.families import tiny
from tests.runs.conftest import labelled_rows, save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("exchange") / "llama", "llama"))


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A short run of a method."""

    def file(method: str) -> Path:
        folder = tmp_path_factory.mktemp(method)
        settings = TrainSettings(learning_rate=2e-2, max_steps=6, per_device_train_batch_size=8)
        task = TaskOptions(guidance="Say yes or no.\n", template="{{ text }}:")
        rows = labelled_rows(60)
        request = TrainRequest(rows, base, folder / "run", method=method, settings=settings, task_options=task)
        with pytest.MonkeyPatch.context() as patch:
            # What is exported does not have to be better than the prompt.
            patch.setattr("foreword.training.events.Score.above", lambda self, other: True)
            return Path(api.train(request).file)

    return file


@pytest.mark.parametrize("method", ["prefix", "lora"])
def test_out_and_in_again(
    method: str, base: str, trained: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, back = trained(method), tmp_path / "back.foreword"
    value, manifest = load(file)
    assert main(["export", str(file), "--output-dir", str(tmp_path / "peft"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == ["adapter_config.json", "adapter_model.safetensors", "foreword.json"]
    assert main(["import", str(tmp_path / "peft"), "--output", str(back), "--base", base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["golden_rows"] == len(manifest.golden) > 0
    assert equal(load(back)[0], value)
    assert load(back)[1] == manifest
    assert api.verify(back).ok


def test_a_checkpoint_of_pefts_own_is_given_a_task(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    settings: dict[str, Any] = {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False}
    peft.get_peft_model(tiny("llama"), peft.LoraConfig(**settings)).save_pretrained(str(tmp_path / "peft"))
    file = tmp_path / "x.foreword"
    flags = ["--template", "{{ text }}:", "--guidance", "Decide.\\n", "--labels", "no,yes"]
    assert main(["import", str(tmp_path / "peft"), "--output", str(file), "--base", base, *flags]) == 0
    value, manifest = load(file)
    assert (manifest.method, value.text, len(value.adapters)) == ("lora", "Decide.\n", 3)
    assert [p.output in ("yes", "no") for p in api.predict(file, text="abc", base=base)] == [True]
    assert "golden_rows" in capsys.readouterr().out


def test_what_cannot_go_out_is_refused(
    base: str, trained: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, manifest = load(trained("prefix"))
    weights = {name: p for name, p in tiny("llama").named_parameters() if "norm" in name}
    save(tmp_path / "full.foreword", type(value)("x", weights=weights), manifest)
    out = str(tmp_path / "peft")
    assert main(["export", str(tmp_path / "full.foreword"), "--base", base, "--output-dir", out]) == 2
    assert "no place" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "full.foreword"), "--output-dir", out, "--format", "onnx"]) == 2
    assert "no such format" in capsys.readouterr().err
    assert main(["import", str(tmp_path), "--output", out, "--base", base]) == 1
    assert not Path(out).exists()
