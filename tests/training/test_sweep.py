"""Successive halving: who goes on, who takes the place of a rate that fails, and stopping and going on anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.core.inject.value import Foreword
from foreword.errors import ResumeError
from foreword.training import checkpoint, side_by_side
from foreword.training.loop import Evaluated, Score, Step, Trial
from foreword.training.lr_search import Sweep, planned_steps, rungs, search
from foreword.training.objective import Outputs

RATES = (1e-2, 5e-2, 2e-2, 1e-1)


class Killed(BaseException):
    """What a process that is killed leaves: nothing is tidied up."""


def swept(
    bench: Any,
    folder: Path,
    rates: tuple[float, ...] = RATES,
    *,
    kill_after: int | None = None,
    interrupt_after: int | None = None,
    spoil: dict[float, int] | None = None,
    make: Callable[..., Trial] | None = None,
    **settings: Any,
) -> tuple[Sweep, list[tuple[float, int]]]:
    """A sweep. ``kill_after`` and ``interrupt_after`` count steps; ``spoil``: rate -> step with a NaN loss."""
    made: list[tuple[float, int]] = []

    def on_event(trial: Trial, event: Step | Evaluated) -> None:
        if isinstance(event, Step):
            made.append((trial.learning_rate, event.step))
            if kill_after is not None and len(made) >= kill_after:
                raise Killed

    def new(rate: float) -> Trial:
        trial: Trial = bench.trial(rate, **settings)
        if spoil and rate in spoil:
            trial.objective = _Spoiled(trial, spoil[rate])  # type: ignore[assignment]
        return trial

    result = search(
        rates, make or new, folder, on_event, lambda: interrupt_after is not None and len(made) >= interrupt_after
    )
    return result, made


class _Spoiled:
    lead = ()

    def __init__(self, trial: Trial, step: int) -> None:
        self.trial, self.inner, self.step = trial, trial.objective, step

    def outputs(self, *args: Any) -> Outputs:
        return self.inner.outputs(*args)

    def losses(self, *args: Any) -> torch.Tensor:
        found = self.inner.losses(*args)
        return found * float("nan") if self.trial.progress.step + 1 == self.step else found


def facts(result: Sweep) -> dict[str, Any]:
    """All that a report says of a sweep, and the values themselves."""
    assert result.trial is not None
    progress = result.trial.progress
    return {
        "rate": result.trial.learning_rate,
        "digest": result.trial.best().digest(),
        "current": result.trial.current().digest(),
        "steps": progress.steps,
        "evaluations": progress.evaluations,
        "best": (progress.best_step, progress.best),
        "outcomes": [(o.learning_rate, o.steps, o.score, o.failure) for o in result.results],
    }


# --- who goes on


@pytest.mark.parametrize(
    ("total", "rates", "plan"),
    [
        (10, 1, [(10, 1)]),
        (10, 4, [(2, 4), (5, 3), (10, 2)]),
        (96, 3, [(20, 3), (48, 3), (96, 2)]),
        (96, 6, [(20, 6), (48, 5), (96, 2)]),
        (3, 2, [(1, 2), (2, 2), (3, 2)]),
        (201, 4, [(41, 4), (101, 3), (201, 1)]),
    ],
)
def test_rungs(total: int, rates: int, plan: list[tuple[int, int]]) -> None:
    assert rungs(total, rates) == plan


def test_a_sweep_makes_the_planned_steps(bench: Any, folder: Path) -> None:
    result, made = swept(bench, folder)
    assert len(made) == planned_steps(12, 4) == 4 * 3 + 3 * 3 + 2 * 6
    assert [o.steps for o in result.results].count(12) == 2
    assert sorted(o.steps for o in result.results) == [3, 6, 12, 12]


def test_the_best_go_on(bench: Any, folder: Path) -> None:
    loss = {1e-2: 0.9, 5e-2: 0.3, 2e-2: 0.6, 1e-1: 0.4}

    def make(rate: float) -> Trial:
        # The accuracy, which moves by chance on few rows, says the opposite.
        trial: Trial = bench.trial(rate, evaluate=lambda _: Score(loss[rate], loss[rate]))
        return trial

    result, made = swept(bench, folder, make=make)
    assert result.trial is not None
    assert result.trial.learning_rate == 5e-2
    assert {o.learning_rate: o.steps for o in result.results} == {1e-2: 3, 2e-2: 6, 1e-1: 12, 5e-2: 12}
    assert made[:3] == [(1e-2, 1), (1e-2, 2), (1e-2, 3)]


def test_the_winner_ran_as_it_would_have_alone(bench: Any, folder: Path, tmp_path: Path) -> None:
    result, _ = swept(bench, folder, eval_steps=4, early_stopping_patience=2)
    assert result.trial is not None
    alone = bench.trial(result.trial.learning_rate, eval_steps=4, early_stopping_patience=2)
    list(alone.run())
    assert result.trial.progress.steps == alone.progress.steps
    assert result.trial.current().digest() == alone.current().digest()


def test_one_rate_is_simply_trained(bench: Any, folder: Path) -> None:
    result, made = swept(bench, folder, (2e-2,))
    assert made == [(2e-2, step) for step in range(1, 13)]
    assert [o.failure for o in result.results] == [None]


def test_a_rate_given_twice_is_tried_once(bench: Any, folder: Path) -> None:
    result, made = swept(bench, folder, (2e-2, 2e-2, 5e-2))
    assert [o.learning_rate for o in result.results] == [2e-2, 5e-2]
    assert len(made) == planned_steps(12, 2)


# --- rates that fail


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_rate_that_is_not_finite_is_out(bench: Any, folder: Path, at: int) -> None:
    result, _ = swept(bench, folder, spoil={5e-2: at})
    failed = next(o for o in result.results if o.learning_rate == 5e-2)
    assert failed.failure is not None
    assert f"step {at} is not finite" in failed.failure
    assert failed.steps == at - 1
    assert result.trial is not None
    assert result.trial.learning_rate != 5e-2
    assert result.trial.progress.step == 12


def ranking(bench: Any, folder: Path) -> list[float]:
    """The rates from the one that went furthest."""
    result, _ = swept(bench, folder)
    found = sorted(result.results, key=lambda o: (o.steps, -o.score.loss), reverse=True)  # type: ignore[union-attr]
    return [o.learning_rate for o in found]


def test_the_next_rate_takes_the_place_of_one_that_fails_late(bench: Any, folder: Path, tmp_path: Path) -> None:
    order = ranking(bench, tmp_path / "order")
    result, _ = swept(bench, folder, spoil={order[0]: 9})
    assert result.trial is not None
    assert result.trial.learning_rate == order[1]
    assert result.trial.progress.step == 12
    late, _ = swept(bench, tmp_path / "both", spoil={order[0]: 9, order[1]: 9})
    assert late.trial is not None
    assert late.trial.learning_rate == order[2]
    middle, _ = swept(bench, tmp_path / "middle", spoil={order[0]: 5, order[1]: 5})
    assert middle.trial is not None
    assert middle.trial.learning_rate in order[2:]
    assert middle.trial.progress.step == 12


def test_no_rate_left(bench: Any, folder: Path) -> None:
    result, _ = swept(bench, folder, spoil=dict.fromkeys(RATES, 12))
    assert result.trial is None
    assert all(o.failure for o in result.results)
    again, made = swept(bench, folder, spoil=dict.fromkeys(RATES, 12))
    assert made == []
    assert [(o.failure, o.steps) for o in again.results] == [(o.failure, o.steps) for o in result.results]


# --- stop anywhere and go on


WHOLE = planned_steps(12, 4)


@pytest.mark.parametrize("optim", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("method", ["prefix", "ptuning"])
def test_stop_and_go_on_is_bit_equal(bench: Any, tmp_path: Path, optim: str, method: str) -> None:
    """Contract 3, one trial: stopped after each step in turn, between evaluations and at them."""
    settings: dict[str, Any] = {"method": method, "optim": optim, "num_train_epochs": 1, "eval_steps": 2}
    wanted = facts(swept(bench, tmp_path / "whole", (2e-2,), **settings)[0])
    for stop in range(1, 6):
        folder = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            swept(bench, folder, (2e-2,), interrupt_after=stop, **settings)
        assert facts(swept(bench, folder, (2e-2,), **settings)[0]) == wanted, f"stopped after step {stop}"


@pytest.mark.parametrize("how", ["kill_after", "interrupt_after"])
def test_stop_and_go_on_in_a_sweep_is_bit_equal(bench: Any, tmp_path: Path, how: str) -> None:
    """Contract 3, a sweep: stopped in every rung, killed or interrupted."""
    wanted = facts(swept(bench, tmp_path / "whole", save_steps=2)[0])
    for stop in (1, 3, 4, 12, 14, 18, WHOLE - 1):
        folder = tmp_path / str(stop)
        with pytest.raises((Killed, KeyboardInterrupt)):
            swept(bench, folder, save_steps=2, **{how: stop})  # type: ignore[arg-type]
        assert facts(swept(bench, folder, save_steps=2)[0]) == wanted, f"stopped after step {stop}"


def test_stopped_again_and_again(bench: Any, tmp_path: Path) -> None:
    wanted = facts(swept(bench, tmp_path / "whole")[0])
    folder = tmp_path / "often"
    for stopped in itertools.count():
        try:
            result, _ = swept(bench, folder, interrupt_after=2)
        except KeyboardInterrupt:
            continue
        assert stopped >= WHOLE // 4
        assert facts(result) == wanted
        break


def test_a_failure_counts_from_its_step_also_when_resumed(bench: Any, tmp_path: Path) -> None:
    """The sweep that goes on chooses as the one that was not stopped: a late failure does not change an early rung."""
    order = ranking(bench, tmp_path / "order")
    spoil = {order[0]: 9, order[1]: 5}
    whole, made = swept(bench, tmp_path / "whole", spoil=spoil)
    wanted = facts(whole)
    for stop in range(13, len(made), 3):
        folder = tmp_path / str(stop)
        with pytest.raises(Killed):
            swept(bench, folder, spoil=spoil, kill_after=stop)
        assert facts(swept(bench, folder, spoil=spoil)[0]) == wanted, f"killed after step {stop}"


def test_early_stopping_survives_a_stop(bench: Any, tmp_path: Path) -> None:
    def constant(rate: float) -> Trial:
        trial: Trial = bench.trial(rate, evaluate=lambda _: Score(0.5, 1.0), eval_steps=1, early_stopping_patience=4)
        return trial

    wanted = facts(swept(bench, tmp_path / "whole", (1e-2,), make=constant)[0])
    assert len(wanted["steps"]) == 5
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            swept(bench, tmp_path / str(stop), (1e-2,), make=constant, interrupt_after=stop)
        assert facts(swept(bench, tmp_path / str(stop), (1e-2,), make=constant)[0]) == wanted


def test_a_checkpoint_never_stands_between_a_step_and_its_evaluation(
    bench: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, int]] = []
    real = checkpoint.save_all

    def save(entries: Any, *more: Any) -> None:
        kept.extend((trial.progress.step, len(trial.progress.evaluations)) for trial, _, _ in entries)
        real(entries, *more)

    monkeypatch.setattr(checkpoint, "save_all", save)
    monkeypatch.setattr(side_by_side, "_SAVE_EVERY", 0.0)  # as if every step took long
    swept(bench, folder, (1e-2,), num_train_epochs=1, eval_steps=3)
    assert kept == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]


# --- the file


def saved(bench: Any, folder: Path) -> tuple[Trial, Path]:
    trial = bench.trial()
    list(trial.run(4))
    path = folder / "checkpoint.safetensors"
    checkpoint.save(trial, path)
    return trial, path


def test_a_checkpoint_holds_everything(bench: Any, folder: Path) -> None:
    trial, path = saved(bench, folder)
    again = bench.trial()
    assert checkpoint.load(again, path)
    assert again.progress == trial.progress
    for (name, got), (other, expected) in zip(
        sorted(again.tensors().items()), sorted(trial.tensors().items()), strict=True
    ):
        assert name == other
        assert torch.equal(got, expected), name
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_no_checkpoint_yet(bench: Any, folder: Path) -> None:
    assert not checkpoint.load(bench.trial(), folder / "checkpoint.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise"])
def test_a_damaged_checkpoint_is_named(bench: Any, folder: Path, damage: str) -> None:
    _, path = saved(bench, folder)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "noise": b"x" * 900}[damage])
    with pytest.raises(ResumeError, match="cannot be read") as caught:
        checkpoint.load(bench.trial(), path)
    assert str(path) in str(caught.value)


def test_a_checkpoint_of_another_trial_is_refused(bench: Any, folder: Path) -> None:
    _, path = saved(bench, folder)
    with pytest.raises(ResumeError, match="another version or trial"):
        checkpoint.load(bench.trial(0.3), path)


def test_an_unfinished_file_beside_it_is_ignored(bench: Any, folder: Path) -> None:
    trial, path = saved(bench, folder)
    path.with_suffix(".partial").write_bytes(b"half")
    again = bench.trial()
    assert checkpoint.load(again, path)
    assert again.current().digest() == trial.current().digest()


def test_values_that_are_saved_are_frozen(bench: Any) -> None:
    trial = bench.trial()
    list(trial.run(2))
    value: Foreword = trial.best()
    assert not any(t.requires_grad for t in value.tensors().values())
    before = value.digest()
    list(trial.run())
    assert value.digest() == before


def test_a_rate_that_waits_holds_no_gradient(bench: Any, tmp_path: Path) -> None:
    trials: list[Trial] = []

    def new(rate: float) -> Trial:
        trial: Trial = bench.trial(rate)
        others = [parameter for other in trials if other is not trial for parameter in other.parameters]
        assert all(parameter.grad is None for parameter in others)
        trials.append(trial)
        return trial

    def alone(trial: Trial, event: Step | Evaluated) -> None:
        holding = [one for one in trials if any(parameter.grad is not None for parameter in one.parameters)]
        assert holding in ([], [trial])

    search(RATES, new, tmp_path, alone)
    assert not any(parameter.grad is not None for trial in trials for parameter in trial.parameters)
