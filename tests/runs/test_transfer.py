"""Transfer: every start for every task, what is refused, tasks trained together, and going on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from foreword import api, load
from foreword.errors import BaseMismatchError, Interrupted, SettingsError
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainRequest
from foreword.studies.transfer.joint_training import together
from foreword.testing.method_contracts import tiny
from foreword.training.shared_writers import sharing

Ask = Callable[..., TrainRequest]


@pytest.fixture
def tasks(request_of: Ask, labelled: str, base: Callable[[str], str], tmp_path: Path) -> dict[str, TrainRequest]:
    """Two tasks on one tiny base; the rows of the second ask for the opposite."""
    settings = {"num_train_epochs": 1.0, "learning_rate": 5e-2}
    other = {"guidance": "Now no or yes?\n", "template": "{{ text }};"}
    return {
        "first": request_of(labelled, base("gru"), tmp_path / "unused", settings=settings),
        "second": request_of(labelled, base("gru"), tmp_path / "unused", task=other, settings=settings),
    }


def names_of(folder: Path) -> list[str]:
    return sorted(f"{p.parent.parent.name}/{p.parent.name}" for p in folder.glob("*/*/model.foreword"))


def test_a_method_that_starts_from_nothing_is_refused(tasks: dict[str, TrainRequest], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot start from another"):
        api.transfer({name: replace(one, method="text") for name, one in tasks.items()}, tmp_path / "out")


def test_the_matrix(tasks: dict[str, TrainRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A tiny random base gains nothing; what is learned is kept all the same here, for there to be a start.
    monkeypatch.setattr("foreword.training.loop.Score.above", lambda self, other: True)
    result = api.transfer(tasks, tmp_path / "out", joint=True)
    assert [(c.start, c.task) for c in result.cells] == [
        ("first", "second"), ("second", "first"), ("together", "first"), ("together", "second"),
    ]  # fmt: skip
    assert names_of(tmp_path / "out") == [
        "first/default", "first/from-second", "first/together",
        "second/default", "second/from-first", "second/together",
    ]  # fmt: skip
    for cell in result.cells:
        assert cell.gain is not None
        assert cell.gain["interval"]["level"] == pytest.approx(1 - 0.05 / 4)
    assert (
        json.loads((tmp_path / "out" / "report.json").read_text())["result"]["tasks"]["first"]["metric"] == "accuracy"
    )
    assert "together" in result.render()
    seen: list[str] = []
    again = api.transfer(tasks, tmp_path / "out", joint=True, progress=lambda name, *_, **__: seen.append(name))
    assert not any("train" in name for name in seen)
    assert again.to_json() == result.to_json()


def test_a_task_that_kept_its_prompt_is_no_start(
    tasks: dict[str, TrainRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreword.training.loop.Score.above", lambda self, other: False)
    result = api.transfer(tasks, tmp_path / "out")
    assert {cell.decision for cell in result.cells} == {"nothing learned"}
    assert "No start" in result.verdict()


def test_what_cannot_be_compared_is_refused(tasks: dict[str, TrainRequest], tmp_path: Path) -> None:
    one = tasks["first"]
    with pytest.raises(SettingsError, match="two tasks"):
        api.transfer({"first": one}, tmp_path)
    with pytest.raises(SettingsError, match="one method"):
        api.transfer({"first": one, "second": replace(tasks["second"], method="prompt")}, tmp_path)
    with pytest.raises(SettingsError, match="one base"):
        api.transfer({"first": one, "second": replace(tasks["second"], base="other")}, tmp_path)
    with pytest.raises(SettingsError, match="this name"):
        api.transfer({"default": one, "second": tasks["second"]}, tmp_path)


@pytest.mark.parametrize("method", ["prefix", "prompt", "ptuning"])
def test_a_foreword_of_another_task_is_a_start(
    method: str, request_of: Ask, labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    settings = {"max_steps": 2, "learning_rate": 5e-2}
    source = api.train(request_of(labelled, base("lstm"), tmp_path / "a", method=method, settings=settings))
    value, _ = load(source.file)
    if not value.num_virtual_tokens:
        pytest.skip("the prompt was kept")
    model = tiny("lstm")
    writer = make_writer(make(method, {"init": "foreword"}), Start(model, "g", (5, 6), foreword=value))
    expected = value.tensors()
    for name, tensor in writer.write().tensors().items():
        torch.testing.assert_close(tensor, expected[name])
    other = {"guidance": "Now.\n", "template": "{{ text }};"}
    started = request_of(labelled, base("lstm"), tmp_path / "b", task=other, method=method, settings=settings)
    assert api.train(replace(started, init_from=source.file)).file
    with pytest.raises(BaseMismatchError):
        api.train(replace(started, base=base("gru"), output_dir=tmp_path / "c", init_from=source.file))


@pytest.mark.parametrize("method", ["prefix", "prompt", "ptuning"])
def test_a_shared_part_changes_nothing_at_first_and_gets_gradients_from_all(method: str) -> None:
    model = tiny("llama")
    starts = [Start(model, "g", ids, seed=13) for ids in ((5, 6, 7, 8), (9, 10, 11))]
    alone = [make_writer(make(method), start) for start in starts]
    before = [writer.write().detach() for writer in alone]
    joined = sharing(alone)
    for writer, value in zip(joined, before, strict=True):
        assert writer.write().detach().digest() == value.digest()
    assert joined[0].shared is joined[1].shared
    assert len(joined[0].shared) > 0
    for writer in joined:
        writer.zero_grad()
        sum(tensor.float().pow(2).sum() for tensor in writer.write().tensors().values()).backward()  # type: ignore[union-attr]
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in writer.shared)


def test_tasks_trained_together_stop_and_go_on(
    tasks: dict[str, TrainRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr("foreword.training.loop.Score.above", lambda self, other: True)

    def placed(folder: str, resume: bool = False) -> dict[str, TrainRequest]:
        return {
            name: replace(request, output_dir=tmp_path / folder / name, resume=resume)
            for name, request in tasks.items()
        }

    whole = together(placed("whole"), tmp_path / "whole" / "c")
    count = 0

    def stop(name: str, done: int, total: int, **fields: object) -> None:
        nonlocal count
        count += name == "train together"
        if count == 5:
            count += 1
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="tasks"):
        together(placed("part"), tmp_path / "part" / "c", stop)
    part = together(placed("part", resume=True), tmp_path / "part" / "c")
    for name in tasks:
        assert load(part[name].file)[0].digest() == load(whole[name].file)[0].digest()
    with pytest.raises(SettingsError, match="two tasks"):
        together({"first": tasks["first"]}, tmp_path)
    with pytest.raises(SettingsError, match="trains nothing"):
        together({n: replace(r, method="text") for n, r in placed("text").items()}, tmp_path / "x")
