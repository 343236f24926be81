"""A comparison ends inside its budget: by a clock that counts what is done instead of seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword.runs.train.interrupt import Interrupts
from foreword.settings.budget import Clock
from foreword.settings.schema import TrainRequest
from foreword.studies.compare import compare as comparing
from foreword.studies.compare import stages
from foreword.studies.compare.compare import compare
from foreword.studies.compare.deadline import Deadline
from foreword.studies.compare.plan import Cost, tail_seconds
from foreword.studies.compare.settings import CompareOptions

STEP = 10.0


class Counted(Clock):
    """A clock on which a training step takes ten seconds and everything else no time."""

    steps: set[tuple[str, int]] = set()

    @property
    def spent(self) -> float:
        return STEP * len(self.steps)

    @classmethod
    def progress(cls, name: str, done: int, total: int, **fields: object) -> None:
        if name.endswith(("train",)) and "loss" in fields:
            cls.steps.add((name, done))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(Counted, "steps", set())
    monkeypatch.setattr(comparing, "Clock", Counted)

    def measure(prepared: object, methods: Mapping[str, object], *_: object) -> tuple[dict[str, Cost], dict[str, str]]:
        return dict.fromkeys(methods, Cost(0.01, 0.0)), {}  # a step is said to take a thousandth of what it takes

    monkeypatch.setattr(stages, "measure", measure)
    return Counted


@pytest.mark.parametrize(("budget", "trained"), [(60, set()), (150, {"prefix"}), (1000, {"prefix", "prompt_tuning"})])
def test_what_does_not_fit_is_left_out_or_stopped_and_told(
    counted: type[Counted], tmp_path: Path, labelled: str, tiny_folder: Any,
    request_of: Callable[..., TrainRequest], budget: int,
    trained: set[str],
) -> None:  # fmt: skip
    request = request_of(labelled, tiny_folder("llama"), tmp_path / "out")
    settings = replace(
        request.settings, learning_rate=0.02, per_device_train_batch_size=8, max_steps=8, side_by_side="off"
    )
    asked = replace(request, settings=settings, progress=counted.progress)
    result = compare(asked, CompareOptions(budget=f"{budget}s", methods=("prefix", "prompt"), seeds=1, shots=0))
    assert counted.spent.fget(Counted(None)) <= budget  # type: ignore[attr-defined]
    assert set(result.systems) & {"prefix", "prompt_tuning"} == trained
    told = " ".join(result.warnings)
    assert ("was stopped: the budget of" in told or "was left out: the budget was spent" in told) == (budget < 1000)
    assert "prompt" in result.systems
    assert (tmp_path / "out" / "report.html").exists()


def test_a_training_stops_where_the_rest_would_not_fit_and_ctrl_c_is_still_heard() -> None:
    user = Interrupts()
    deadline = Deadline(user, Clock(100.0, before=60.0), reserve=30.0)
    assert not deadline.asked()
    deadline.reserve = 50.0
    assert deadline.asked()
    assert deadline.stopped
    deadline.reserve = 0.0
    with pytest.raises(KeyboardInterrupt), deadline.noted():
        user.heard(2, None)
        assert deadline.asked()
        assert not deadline.stopped


def test_what_comes_behind_the_last_training_has_its_part_of_the_budget() -> None:
    assert tail_seconds(240, 0.0, 7, 3) == pytest.approx(0.03 * 240 + 5)
    assert tail_seconds(240, 0.03, 7, 3) > tail_seconds(240, 0.03, 7, 1) > tail_seconds(240, 0.0, 7, 1)
