"""Cross-validation: every row tested once by what has not seen it, side by side as alone, and going on where it was."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from foreword.artifact.store import load
from foreword.errors import ResumeError, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import read_jsonl
from foreword.evaluation.report.translator import Translator
from foreword.evaluation.statistics.intervals import wilson_interval
from foreword.settings.schema import TrainRequest
from foreword.studies.cross_validation import FoldsResult, cross_validate, resume_folds
from foreword.training.loop import Trial


class Killed(BaseException):
    """A kill: nothing is tidied up."""


def asked(request_of: Callable[..., TrainRequest], data: str, base: str, folder: Path, **settings: Any) -> TrainRequest:
    return request_of(data, base, folder, settings={"num_threads": 1, "num_train_epochs": 1.0, **settings})


@pytest.fixture(scope="module")
def made(
    request_of: Callable[..., TrainRequest], rows_of: Any, base: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FoldsResult, TrainRequest]:
    folder = tmp_path_factory.mktemp("folds")
    pd.DataFrame(rows_of("words", 60)).to_csv(folder / "rows.csv", index=False)
    request = asked(request_of, str(folder / "rows.csv"), base("llama"), folder / "cv", side_by_side="on")
    return cross_validate(request, 3), request


def answered(folder: Path, number: int) -> list[Any]:
    return read_jsonl(folder / f"fold-{number}" / "predictions" / "foreword.jsonl")


def test_every_row_is_tested_once_by_what_has_not_learned_from_it(made: tuple[FoldsResult, TrainRequest]) -> None:
    folder = Path(made[0].folder)
    tested: list[str] = []
    for number in (1, 2, 3):
        splits = json.loads((folder / f"fold-{number}" / "run.json").read_text())["data"]
        ids = {name: set(split["ids"]) for name, split in splits.items()}
        assert not ids["train"] & ids["test"]
        assert not ids["dev"] & (ids["train"] | ids["test"])
        assert [answer.id for answer in answered(folder, number)] == splits["test"]["ids"]
        tested += splits["test"]["ids"]
    assert len(tested) == len(set(tested)) == 54  # the other six are dev, in every fold
    last = json.loads((folder / "all" / "run.json").read_text())["data"]
    assert set(last["train"]["ids"]) == set(tested)
    assert "test" not in last


def test_the_figures_are_those_of_all_answers(made: tuple[FoldsResult, TrainRequest]) -> None:
    result, _ = made
    answers = [answer for number in (1, 2, 3) for answer in answered(Path(result.folder), number)]
    value = get_metric("accuracy").corpus([a.output for a in answers], [a.gold for a in answers])
    assert result.systems["foreword"]["metrics"]["accuracy"]["value"] == pytest.approx(value)
    assert result.difference is not None
    assert result.difference["rows"] == 54
    assert [fold["rows"] for fold in result.folds] == [18, 18, 18]
    assert load(result.file)[0].num_virtual_tokens or load(result.file)[0].text
    report = json.loads((Path(result.folder) / "report.json").read_text())
    assert report["folds"] == result.folds
    for text in (report["title"], *(note for table in report["tables"] for note in table["notes"])):
        assert Translator(report["messages"]).known(text), text
    assert "3 folds" in result.render()
    # What the interval is about stands beside the figures, and it is that of rows times the square root of 3 / 2.
    assert "widened because folds share training rows" in result.render()
    figure = result.systems["foreword"]["metrics"]["accuracy"]
    plain = wilson_interval(value * 54, 54)
    assert figure["method"] == "wilson-folds"
    assert figure["high"] == pytest.approx(min(1.0, value + math.sqrt(1.5) * (plain.high - value)))
    assert figure["low"] == pytest.approx(max(0.0, value - math.sqrt(1.5) * (value - plain.low)))
    assert not (Path(result.folder) / "fold-1" / "trials").exists()


def test_side_by_side_is_one_after_another(made: tuple[FoldsResult, TrainRequest], tmp_path: Path) -> None:
    result, request = made
    alone = cross_validate(
        replace(request, output_dir=tmp_path / "cv", settings=replace(request.settings, side_by_side="off")), 3
    )
    for number in (1, 2, 3):
        one, other = (load(Path(r.folder) / f"fold-{number}" / "model.foreword")[0] for r in (result, alone))
        for name, tensor in one.tensors().items():
            torch.testing.assert_close(other.tensors()[name], tensor, atol=1e-3, rtol=0)
        for a, b in zip(answered(Path(result.folder), number), answered(tmp_path / "cv", number), strict=True):
            assert a.scores == pytest.approx(b.scores, abs=1e-3)


def test_a_kill_costs_nothing_but_time(
    made: tuple[FoldsResult, TrainRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, request = made
    folder, real, steps = tmp_path / "cv", Trial.finish, 0

    def finish(self: Trial, total: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 8:
            raise Killed
        return real(self, total)

    monkeypatch.setattr(Trial, "finish", finish)
    with pytest.raises(Killed):
        cross_validate(replace(request, output_dir=folder), 3)
    monkeypatch.undo()
    with pytest.raises(ResumeError, match="not the run"):
        cross_validate(replace(request, output_dir=folder, resume=True), 4)
    again = resume_folds(folder)
    assert again.systems["foreword"]["metrics"] == result.systems["foreword"]["metrics"]
    assert load(again.file)[0].digest() == load(result.file)[0].digest()
    shutil.rmtree(folder / "fold-2")
    assert resume_folds(folder).folds == result.folds


def test_each_fold_finds_its_own_rate(
    request_of: Callable[..., TrainRequest], labelled: str, base: Any, tmp_path: Path
) -> None:
    request = asked(request_of, labelled, base("llama"), tmp_path / "cv", sweep=(5e-2, 1e-3), learning_rate=None)
    result = cross_validate(request, 2)
    tried = json.loads((tmp_path / "cv" / "fold-2" / "report.json").read_text())["training"]["sweep"]
    assert {one["learning_rate"] for one in tried} == {5e-2, 1e-3}
    rates = {fold["learning_rate"] for fold in result.folds} - {None}
    last = json.loads((tmp_path / "cv" / "all" / "run.json").read_text())["request"]["training"]["learning_rate"]
    assert last in (rates or {5e-2})


def test_a_trained_head_stands_alone(
    request_of: Callable[..., TrainRequest], labelled: str, base: Any, tmp_path: Path
) -> None:
    request = request_of(
        labelled, base("bert"), tmp_path / "cv", task={"template": "{{ text }}", "head": True},
        settings={"num_train_epochs": 1.0, "num_threads": 1},
    )  # fmt: skip
    result = cross_validate(request, 2)
    assert list(result.systems) == ["foreword"]
    assert result.difference is None
    assert result.folds[0]["prompt"] is None


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"test": "t.csv"}, "--test"),
        ({"method": "text"}, "--method"),
        ({"base": "lstm"}, "--base"),
        ({"settings": {"processes": 2}}, "processes"),
        ({"settings": {"ablate": True, "augment": ("case",)}}, "ablate"),
    ],
)
def test_what_does_not_go_with_folds_is_refused_before_anything_is_read(
    changes: dict[str, Any], where: str, tmp_path: Path
) -> None:
    from foreword.settings.schema import TrainSettings

    if "settings" in changes:
        changes = {**changes, "settings": TrainSettings(**changes["settings"])}
    request = replace(TrainRequest(data="none.csv", base="none", output_dir=tmp_path / "cv"), **changes)
    with pytest.raises(SettingsError) as caught:
        cross_validate(request, 3)
    assert caught.value.where == where
    assert not (tmp_path / "cv").exists()
