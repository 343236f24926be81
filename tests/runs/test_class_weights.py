"""Weights of classes in the training loss, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foreword import api
from foreword.core.inject.injection import injected
from foreword.errors import SettingsError
from foreword.runs.prepare.prepare import Prepared, prepare
from foreword.settings.schema import TrainRequest, TrainSettings
from foreword.training.class_weights import class_weights
from foreword.training.heads.base import Chooser
from foreword.training.heads.words import Choose
from foreword.training.step import Share, backward
from tests.runs.conftest import labelled_rows

Ask = Callable[..., TrainRequest]


def skewed() -> list[dict[str, str]]:
    """40 rows no, 10 rows yes."""
    rows = labelled_rows(80)
    return [row for row in rows if row["label"] == "no"] + [row for row in rows if row["label"] == "yes"][:10]


def gradients(prepared: Prepared, rows: list[int]) -> dict[str, torch.Tensor]:
    """Of the sum of the losses of some training rows."""
    torch.manual_seed(0)
    writer = prepared.writer()
    chosen = [prepared.examples["train"][i] for i in rows]
    with injected(prepared.base.model, [writer.write()]) as injection:
        backward(prepared.base.model, injection, [Share(writer, prepared.objective(writer), [chosen])])
    return {name: p.grad.clone() for name, p in writer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("family", "head"), [("llama", False), ("t5", False), ("bert", True)])
def test_the_gradient_of_a_row_is_its_classs_weight_times_as_large(
    family: str, head: bool, request_of: Ask, base: Callable[[str], str], tmp_path: Path
) -> None:
    def made(weights: object) -> Prepared:
        settings = {"class_weight": weights}
        return prepare(request_of(skewed(), base(family), tmp_path / "run", task={"head": head}, settings=settings))

    plain, weighted = made(None), made("yes=3")
    golds = [plain.task.labels[row.gold] for row in plain.examples["train"]]
    for label, weight in (("yes", 3.0), ("no", 1.0)):
        row = [golds.index(label)]
        before, after = gradients(plain, row), gradients(weighted, row)
        assert before
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], weight * gradient, rtol=1e-2, atol=1e-4)


def test_balanced_makes_classes_count_alike(request_of: Ask, base: Callable[[str], str], tmp_path: Path) -> None:
    request = request_of(skewed(), base("llama"), tmp_path / "run", settings={"class_weight": "balanced"})
    prepared = prepare(request)
    rows = prepared.examples["train"]
    weights = class_weights(request.settings.class_weight, prepared.task, rows)
    totals = [sum(weights[row.gold] for row in rows if row.gold == gold) for gold in (0, 1)]
    assert totals[0] == pytest.approx(totals[1])
    assert sum(totals) == pytest.approx(len(rows))
    objective = prepared.objective(prepared.writer())
    assert isinstance(objective, Choose)
    assert objective.weights == weights
    dev = prepared.asker.objective(prepared.writer().write())
    assert isinstance(dev, Choose)
    assert dev.weights == ()


def test_a_run_with_weights_says_yes_more_often(request_of: Ask, base: Callable[[str], str], tmp_path: Path) -> None:
    says = []
    for weight in ("yes=50", "no=50"):
        settings = {"class_weight": weight, "max_steps": 6}
        result = api.train(request_of(skewed(), base("llama"), tmp_path / weight, settings=settings))
        says.append(sum(one.output == "yes" for one in api.predict(result.file, [r["text"] for r in skewed()])))
        assert '"class_weight"' in (tmp_path / weight / "report.json").read_text()
    assert says[0] >= says[1]


@pytest.mark.parametrize(
    ("weights", "problem"),
    [({"maybe": 2}, "maybe"), ({"yes": -1}, "above 0"), ("yes=much", "above 0"), ({"no": "nan"}, "above 0")],
)
def test_weights_that_cannot_be_are_refused_before_a_base_is_loaded(
    weights: object, problem: str, request_of: Ask, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=problem):
        api.train(request_of(labelled_rows(40), "no/base", tmp_path / "a", settings={"class_weight": weights}))


def test_weights_are_for_one_label_a_row(request_of: Ask, paired: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one label a row"):
        api.train(request_of(paired, "no/base", tmp_path / "a", task={}, settings={"class_weight": "balanced"}))
    assert TrainSettings(class_weight={"a": "2"}).to_json()["class_weight"] == {"a": "2"}
    assert issubclass(Choose, Chooser)
