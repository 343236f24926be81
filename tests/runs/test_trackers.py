"""Figures for TensorBoard, MLflow and Weights & Biases: what each is told, by modules that stand in for theirs."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from foreword import train
from foreword.errors import SettingsError
from foreword.runs.trackers.base import Tracking, trackers
from tests.runs.conftest import save_tiny

ROWS = [{"text": f"a {'fine' if i % 2 else 'dull'} film {i}", "label": "good" if i % 2 else "bad"} for i in range(40)]
SETTINGS: dict[str, Any] = {"learning_rate": 0.02, "max_steps": 4, "eval_steps": 2, "progress": False}


class Recorder:
    """Calls by name, with their arguments; an attribute is a function that is recorded."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_tiny(tmp_path / "base", "llama"))


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A module of that name with these members."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_mlflow_is_told_of_each_evaluation(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Recorder()
    told.info = types.SimpleNamespace(run_id="1")  # type: ignore[attr-defined]
    names = ("start_run", "log_params", "log_metrics", "end_run")
    stand_in(monkeypatch, "mlflow", **{name: getattr(told, name) for name in names})
    train(ROWS, base=base, output_dir=tmp_path / "run", report_to="mlflow", **SETTINGS)
    assert told.of("start_run")[0][1]["run_name"] == "run"
    assert told.of("log_params")[0][0][0]["max_steps"] == "4"
    logged = told.of("log_metrics")
    assert [kwargs["step"] for _, kwargs in logged] == [2, 4]
    figures = logged[-1][0][0]
    assert set(figures) == {"rate-0.02/" + name for name in ("dev/accuracy", "dev/loss", "loss", "learning_rate")}
    assert len(told.of("end_run")) == 1


def test_wandb_is_told_of_each_evaluation(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Recorder()
    stand_in(monkeypatch, "wandb", init=told.init)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    train(ROWS, base=base, output_dir=tmp_path / "run", report_to="wandb", **SETTINGS)
    assert told.of("init")[0][1]["project"] == "mine"
    assert [args[0]["rate-0.02/step"] for args, _ in told.of("log")] == [2, 4]
    assert len(told.of("finish")) == 1


def test_tensorboard_has_a_curve_a_rate(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Recorder()
    stand_in(monkeypatch, "tensorboard")
    stand_in(monkeypatch, "torch.utils.tensorboard", SummaryWriter=told.writer)
    train(ROWS, base=base, output_dir=tmp_path / "run", report_to="tensorboard", **SETTINGS)
    assert told.of("writer")[0][0] == (str(tmp_path / "run" / "tensorboard" / "rate-0.02"),)
    assert {args[0] for args, _ in told.of("add_scalar")} == {"dev/accuracy", "dev/loss", "loss", "learning_rate"}


def test_none_is_reported_to_unless_it_is_asked_for_and_what_is_not_there_is_refused(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(trackers()) == ["mlflow", "tensorboard", "wandb"]
    monkeypatch.setattr("foreword.runs.trackers.base.find_spec", lambda name: None)
    for name, problem in (("mlflow", "mlflow is not installed"), ("clearml", "there is no such tracker")):
        with pytest.raises(SettingsError, match=problem) as caught:
            train(ROWS, base=base, output_dir=tmp_path / "run", report_to=name)
        assert caught.value.where == "report_to"
    assert not (tmp_path / "run").exists()
    assert train(ROWS, base=base, output_dir=tmp_path / "run", report_to="none", **SETTINGS).file


def test_a_tracker_that_fails_is_told_of_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> object:
        raise ConnectionError("no route\nto host")

    stand_in(monkeypatch, "wandb", init=broken)
    tracking = Tracking(["wandb"], tmp_path, {})
    tracking.log("rate-1", 1, {"loss": 1.0})
    tracking.close()
    assert tracking.failures == ["wandb took no more figures: ConnectionError: no route"]
