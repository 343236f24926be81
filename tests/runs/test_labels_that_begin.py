"""Labels of which one begins another: a run, its file, and everything that answers with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from foreword import api
from foreword.core.base.load import base_of, load_base
from foreword.core.inject.value import EMPTY
from foreword.core.passes.scoring import completion_losses
from foreword.data.task.task import Task
from foreword.evaluation.predict import Asker
from foreword.runs.train.result import TrainResult
from foreword.testing import byte_tokenizer, tiny
from tests.runs.conftest import labelled_rows
from tests.serve.conftest import serving

RATINGS = tuple(str(number) for number in range(1, 11))
Run = Callable[..., TrainResult]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "lstm", "t5", "bart"])
def test_each_label_is_as_likely_as_it_and_its_end_are_written(family: str) -> None:
    base = base_of(tiny(family), byte_tokenizer())
    task = Task("classification", "{{ text }}:", "", "label", {label: f" {label}" for label in RATINGS})
    asker = Asker(base.model, base.tokenizer, task, base.kind != "decoder")
    objective = asker.objective(EMPTY)
    row = base.tokenizer("abc:")["input_ids"]
    ids = [(*base.tokenizer(f" {label}")["input_ids"], base.tokenizer("\n")["input_ids"][0]) for label in RATINGS]
    with torch.no_grad():
        losses, owners = completion_losses(base.model, [row] * len(ids), ids, 0)
    total = torch.zeros(len(ids)).index_add(0, owners, -losses)
    wanted = dict(zip(RATINGS, total.log_softmax(0).tolist(), strict=True))
    from foreword.data.tokens.examples import Example

    [answer] = asker.answer(EMPTY, [Example("0", tuple(row), (), 0, "1")])
    if not objective.lead:
        assert answer.scores == pytest.approx(wanted, abs=1e-3)
    assert sum(map(math.exp, answer.scores.values())) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_from_training_to_the_server(family: str, base: Callable[[str], str], request_of: Run, tmp_path: Path) -> None:
    rows = [{**row, "label": {"no": "1", "yes": "10"}[row["label"]]} for row in labelled_rows(60)]
    result = api.train(request_of(rows, base(family), tmp_path / "run"))
    assert "label words end with '\\n', because '1' begins '10'" in result.text
    test = [{"text": "abcdefgx", "label": "10"}, {"text": "zbcdefga", "label": "1"}]
    answers = api.predict(result.file, test)
    assert {answer.output for answer in answers} <= {"1", "10"}
    found = api.evaluate(result.file, test)
    assert found["metrics"]["accuracy"]["value"] == sum(a.output == a.gold for a in answers) / 2
    assert api.verify(result.file).ok
    with serving(load_base(base(family)), Path(result.file)) as client:
        name = Path(result.file).stem
        served = client.post("/v1/classify", json={"model": name, "input": [row["text"] for row in test]}).json()
    assert [row["label"] for row in served["data"]] == [answer.output for answer in answers]
