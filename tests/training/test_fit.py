"""As many rows at a time as memory holds: foreseen from few of them, and the same result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.core.passes import memory
from foreword.settings.schema import TrainSettings
from foreword.training import batch_size

CPU = torch.device("cpu")
MIB = 2**20


def foreseen(bench: Any, monkeypatch: pytest.MonkeyPatch, limit: int, free: int = 0) -> int:
    """What is chosen for a batch of 16 rows where a step takes 50 MiB and 10 MiB a row."""

    def peak(device: torch.device, act: Callable[[], object]) -> int:
        rows: list[int] = []
        real = type(bench.objective).outputs

        def outputs(self: Any, model: Any, batch: Any) -> Any:
            rows.append(len(batch))
            return real(self, model, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(bench.objective), "outputs", outputs)
            act()
        return (50 + 10 * max(rows)) * MIB

    monkeypatch.setattr(batch_size, "peak", peak)
    monkeypatch.setattr(batch_size, "in_use", lambda device: 0)
    monkeypatch.setattr(batch_size, "available", lambda device: free)

    def make(rows: Any) -> list[Any]:
        trial = bench.trial(per_device_train_batch_size=16)
        trial.rows = rows
        return [type(trial)(trial.model, trial.writer, trial.objective, rows, trial.settings, 1e-3, trial.evaluate)]

    return batch_size.rows_that_fit(make, bench.rows, limit * MIB)


@pytest.mark.parametrize(
    ("limit", "rows"), [(1000, 0), (263, 0), (262, 8), (163, 8), (162, 4), (113, 4), (112, 2), (1, 1)]
)
def test_half_as_many_until_they_fit(bench: Any, monkeypatch: pytest.MonkeyPatch, limit: int, rows: int) -> None:
    assert foreseen(bench, monkeypatch, limit) == rows


def test_without_a_limit_what_is_free_counts(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert foreseen(bench, monkeypatch, 0, 200 * MIB) == 8
    assert foreseen(bench, monkeypatch, 0, 0) == 0  # nothing says how much is free


def test_what_work_takes_is_measured() -> None:
    precompute: list[Any] = []
    before = memory.in_use(CPU)
    most = memory.peak(CPU, lambda: precompute.append(torch.ones(64 * MIB // 4)))
    assert most - before > 55 * MIB
    assert memory.in_use(CPU) > 0
    assert memory.available(CPU) >= 0


def test_auto_is_a_batch_of_sixteen_rows_everywhere() -> None:
    assert TrainSettings(per_device_train_batch_size="auto").batch_rows == 16
    assert TrainSettings(per_device_train_batch_size=5).batch_rows == 5
    assert TrainSettings(per_device_train_batch_size="auto").to_json()["per_device_train_batch_size"] == "auto"


def test_a_run_finds_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foreword.runs.train import precompute

    class Known:
        def __init__(self, batch: Any) -> None:
            self.request = type("R", (), {"settings": TrainSettings(per_device_train_batch_size=batch)})()
            self.examples: dict[str, Any] = {"train": []}

    asked: list[int] = []
    monkeypatch.setattr(precompute, "rows_that_fit", lambda make, rows, limit: asked.append(limit) or 4)
    (tmp_path / "run.json").write_text(json.dumps({"request": {}, "base": {}, "data": {}}), encoding="utf-8")
    assert [precompute.fitted(Known("auto"), tmp_path, 1) for _ in range(3)] == [4, 4, 4]  # type: ignore[arg-type]
    assert asked == [0]
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["rows_at_once"] == 4
    assert precompute.fitted(Known(8), tmp_path, 1) == 0  # type: ignore[arg-type]
