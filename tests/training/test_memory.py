"""Too little memory: a step is made in smaller passes, with the same result, and a run is not lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.core.passes.memory import in_halves, out_of_memory
from foreword.errors import ResourceError
from foreword.training import checkpoint
from foreword.training.loop import Score, Trial
from foreword.training.objective import Choose
from foreword.training.side_by_side import train_all

CPU = torch.device("cpu")
SAYINGS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


def small(patch: pytest.MonkeyPatch, rows: int, error: BaseException = SAYINGS[0]) -> list[int]:
    """A machine with memory for ``rows`` rows; returns the sizes of the passes that it was asked for."""
    asked: list[int] = []
    real = Choose.outputs

    def outputs(self: Choose, model: Any, batch: Any) -> Any:
        asked.append(len(batch))
        if len(batch) > rows:
            raise error
        return real(self, model, batch)

    patch.setattr(Choose, "outputs", outputs)
    return asked


def unscored(bench: Any, **settings: Any) -> Trial:
    """A trial whose evaluations ask no model."""
    trial: Trial = bench.trial(settings.pop("learning_rate", 5e-2), evaluate=lambda _: Score(0.5, 1.0), **settings)
    return trial


def same(got: Trial, expected: Trial) -> None:
    for (name, one), other in zip(got.current().tensors().items(), expected.current().tensors().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


@pytest.mark.parametrize("error", SAYINGS)
def test_out_of_memory_halves_the_passes_and_changes_nothing(bench: Any, error: BaseException) -> None:
    alone, trial = (unscored(bench, per_device_train_batch_size=22, num_train_epochs=3) for _ in range(2))
    list(alone.run(3))
    with pytest.MonkeyPatch.context() as patch:
        asked = small(patch, 3, error)
        list(trial.run(3))
    assert trial.progress.rows_at_once == 2
    assert asked[:4] == [22, 11, 5, 2]
    assert max(asked[4:]) == 2  # what did not fit is not tried again
    assert [s.step for s in trial.progress.steps] == [1, 2, 3]
    assert [s.loss for s in trial.progress.steps] == pytest.approx([s.loss for s in alone.progress.steps], abs=1e-5)
    same(trial, alone)


def test_side_by_side_they_shrink_together(bench: Any) -> None:
    rates = (1e-2, 5e-2)
    alone, trials = ([unscored(bench, learning_rate=rate) for rate in rates] for _ in range(2))
    for one in alone:
        list(one.run(2))
    with pytest.MonkeyPatch.context() as patch:
        asked = small(patch, 4)
        train_all(trials, until=2)
    assert max(asked[1:]) == 4
    assert [one.progress.rows_at_once for one in trials] == [4, 4]
    for one, other in zip(trials, alone, strict=True):
        same(one, other)


def test_the_size_is_kept_with_the_trial(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, path = unscored(bench), tmp_path / "0.05" / "checkpoint.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        small(patch, 2)
        train_all([trial], until=1, paths=[path])
    again = unscored(bench)
    assert checkpoint.load(again, path)
    asked = small(monkeypatch, 2)
    list(again.run(2))
    assert again.progress.rows_at_once == 2
    assert max(asked[:2]) == 2


def test_one_row_that_does_not_fit_is_the_end(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 0)
    with pytest.raises(ResourceError, match="not even one row") as caught:
        list(unscored(bench).run())
    assert caught.value.exit_code == 4


def test_other_errors_are_passed_on(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    trial = unscored(bench)
    with pytest.raises(RuntimeError, match="shapes"):
        list(trial.run())
    assert trial.progress.rows_at_once == 0


@pytest.mark.parametrize(
    ("error", "says"),
    [*((one, True) for one in SAYINGS), (RuntimeError("shape"), False), (ValueError("memory"), False)],
)
def test_what_says_that_memory_ran_out(error: BaseException, says: bool) -> None:
    assert out_of_memory(error) is says


def limited(most: int) -> Callable[[Any], list[int]]:
    def act(rows: Any) -> list[int]:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        return [10 * row for row in rows]

    return act


def test_work_in_halves() -> None:
    assert in_halves(limited(3), range(10), CPU) == [10 * i for i in range(10)]
    with pytest.raises(torch.OutOfMemoryError):
        in_halves(limited(0), range(10), CPU)
