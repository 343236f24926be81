"""A short foreword that answers like a long text: the closed-form start, the objective, whole runs on tiny bases."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from foreword import api
from foreword.cli.main import main
from foreword.core.base.load import Base, load_base
from foreword.core.inject.initial_values import from_ids
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.errors import DataError, Interrupted, SettingsError, UnsupportedBaseError
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare
from foreword.evaluation.statistics.differences import Difference
from foreword.evaluation.statistics.intervals import Interval
from foreword.runs.prepare.prepare import prepare
from foreword.settings.schema import TrainRequest, TrainSettings
from foreword.studies.distill.distill import distill, resume_distillation
from foreword.studies.distill.distill_result import DistillResult, state_of
from foreword.studies.distill.matched_start import matched
from foreword.studies.distill.self_questions import questions
from foreword.studies.distill.settings import DistillSettings
from foreword.studies.distill.teacher import Teacher
from foreword.training.soft_targets import Imitate

Requests = Callable[..., TrainRequest]
Folders = Callable[[str], str]
ONE_RATE = TrainSettings(learning_rate=0.02, max_steps=3)


@pytest.fixture(scope="module")
def llama(tiny_folder: Folders) -> Base:
    return load_base(tiny_folder("llama"))


def _drawn(count: int, length: int, seed: int) -> list[list[int]]:
    drawn = random.Random(seed)
    return [[drawn.randrange(97, 122) for _ in range(length)] for _ in range(count)]


def _logits(base: Base, value: Foreword, ids: list[int]) -> Tensor:
    with torch.no_grad(), injected(base.model, [value]):
        logits: Tensor = base.model(torch.tensor([ids])).logits[0]
    return logits


def test_a_text_matched_by_as_many_tokens_is_the_text(llama: Base) -> None:
    (text,), rows = _drawn(1, 24, 0), _drawn(6, 8, 1)
    whole, kept = Foreword(sites=from_ids(llama.model, text)), Foreword(sites=matched(llama.model, text, rows, 24)[0])
    torch.testing.assert_close(_logits(llama, kept, rows[0]), _logits(llama, whole, rows[0]), atol=1e-3, rtol=1e-3)


def test_a_matched_text_says_more_of_it_than_its_first_tokens(llama: Base) -> None:
    (text,), rows, held = _drawn(1, 60, 0), _drawn(24, 8, 1), _drawn(8, 8, 2)
    teacher = Foreword(sites=from_ids(llama.model, text))

    def divergence(value: Foreword) -> float:
        pairs = [
            (_logits(llama, teacher, ids).log_softmax(-1), _logits(llama, value, ids).log_softmax(-1)) for ids in held
        ]
        return sum(float((one.exp() * (one - other)).sum()) for one, other in pairs)

    first = Foreword(sites=from_ids(llama.model, text[:20]))
    assert divergence(Foreword(sites=matched(llama.model, text, rows, 20)[0])) < 0.7 * divergence(first)


@pytest.mark.parametrize(("family", "why"), [("gpt2", "learned positions"), ("gemma2", "softcap|window|not relative")])
def test_a_base_whose_positions_or_attention_do_not_allow_it_is_refused_by_name(
    tiny_folder: Folders, family: str, why: str
) -> None:
    model = load_base(tiny_folder(family)).model
    with pytest.raises(UnsupportedBaseError, match=why):
        matched(model, _drawn(1, 12, 0)[0], _drawn(2, 6, 1), 4)


@pytest.mark.parametrize("kind", ["labelled", "paired"])
def test_who_says_what_the_teacher_says_has_nothing_to_learn(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, tiny_folder: Folders, request_of: Requests
) -> None:
    task: dict[str, Any] = {} if kind == "labelled" else {"template": "{{ prompt }}:", "max_new_tokens": 4}
    asked = request_of(request.getfixturevalue(kind), tiny_folder("llama"), tmp_path, task=task)
    prepared = prepare(asked)
    teacher = Teacher.of(prepared, DistillSettings(shots=4))
    rows = prepared.examples["train"][:6]
    objective = Imitate(prepared.asker.objective(teacher.value), teacher.taught(rows, 300, lambda done, total: None))
    model, other = prepared.base.model, Foreword(sites=from_ids(prepared.base.model, teacher.ids[:8]))

    def losses(value: Foreword) -> Tensor:
        with torch.no_grad(), injected(model, [value]):
            return objective.losses(objective.outputs(model, rows), rows, value)

    assert len(losses(other)) == (len(rows) if kind == "labelled" else sum(len(row.target_ids) for row in rows))
    assert losses(teacher.value).abs().max() < 1e-3
    assert losses(other).mean() > 10 * losses(teacher.value).abs().mean()


def test_examples_are_distilled_and_held_to_their_teacher(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    asked = request_of(labelled, tiny_folder("llama"), tmp_path / "run", settings=ONE_RATE)
    found = distill(asked, DistillSettings(shots=6, num_virtual_tokens=12))
    assert list(found.systems) == ["prompt", "start", "foreword", "teacher"]
    teacher, student = found.systems["teacher"], found.systems["foreword"]
    assert teacher["agreement"][0] == 1.0
    assert teacher["tokens"] > 100
    assert student["tokens"] in (12, found.systems["prompt"]["tokens"])
    assert found.state in ("as_good", "worse", "cannot_tell")
    assert found.difference is not None
    assert found.difference["interval"]["level"] == 0.9
    assert found.difference["estimate"] == pytest.approx(student["figure"] - teacher["figure"])
    # The examples are no rows to learn from, and the test rows keep their own labels.
    answered = (tmp_path / "run" / "teacher" / "train.jsonl").read_text().splitlines()
    assert len(answered) == found.trained.rows["train"]
    asked_of = _lines(tmp_path / "run" / "teacher" / "train-answers.jsonl")
    assert len(answered) == len(asked_of) - 6
    assert json.loads((tmp_path / "run" / "distill.json").read_text())["verdict"] == str(found.verdict())
    assert "tokens in front of a row instead of" in found.render()
    assert api.verify(found.file, base=tiny_folder("llama")).ok


def test_the_first_position_of_a_matched_text_is_the_texts_own(llama: Base) -> None:
    (text,), rows = _drawn(1, 40, 0), _drawn(6, 8, 1)
    whole = from_ids(llama.model, text)
    for name, kv in matched(llama.model, text, rows, 10)[0].items():
        torch.testing.assert_close(kv.values[0], whole[name].values[0])


@pytest.mark.parametrize(
    ("metric", "low", "high", "state"),
    [
        ("accuracy", -0.019, 0.03, "as_good"), ("accuracy", -0.021, 0.03, "cannot_tell"),
        ("accuracy", -0.08, -0.021, "worse"), ("perplexity", -9.0, 1.9, "as_good"), ("perplexity", 2.1, 9.0, "worse"),
    ],
)  # fmt: skip
def test_as_good_needs_the_lower_end_above_the_margin(metric: str, low: float, high: float, state: str) -> None:
    interval = Interval(low, high, 0.9, "given")
    assert state_of(metric, Difference(metric, 0.0, 0.0, 0.0, interval, 0.5, "given", 100), 2.0) == state


def test_a_teacher_worse_than_the_prompt_is_told_of() -> None:
    right = [Prediction(str(n), "in", "a", "a") for n in range(60)]
    wrong = [replace(one, output="b" if int(one.id) < 20 else "a") for one in right]
    system = {"tokens": 9, "agreement": [1.0, 0.9, 1.0], "figure": 0.6, "ms": 1.0}
    gain = compare(right, wrong, "accuracy").to_json()
    found = DistillResult(
        "f",
        "accuracy",
        {"foreword": system, "teacher": system},
        None,
        gain,
        None,
        2.0,
        "measured",
        60,
        0,
        None,  # type: ignore[arg-type]
    )
    assert "The short prompt alone is better than this teacher: Accuracy +33.3 points" in found.verdict()
    assert "better" not in replace(found, prompt_gain=compare(wrong, right, "accuracy").to_json()).verdict()


def test_rows_without_answers_are_distilled_from_a_prompt_on_the_command_line(
    tmp_path: Path, tiny_folder: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = random.Random(0)
    rows = [{"text": "".join(drawn.choice("abcdefgh") for _ in range(7))} for _ in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "long.txt").write_text("Say yes where there is an a, and no where there is none. " * 3)
    flags = ["--base", tiny_folder("llama"), "--output-dir", str(tmp_path / "run"), "--set", "max_steps=2"]
    more = ["--labels", "yes=yes,no=no", "--learning-rate", "0.02", "--num-virtual-tokens", "16", "--json"]
    long = str(tmp_path / "long.txt")
    assert main(["distill", str(tmp_path / "rows.jsonl"), "--teacher-prompt", long, *flags, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "measured"
    assert found["difference"] is None
    assert "no right answers" in found["verdict"]
    assert {json.loads(line)["answer"] for line in _lines(tmp_path / "run/teacher/train.jsonl")} <= {"yes", "no"}


def test_the_base_asks_itself_about_a_document(tmp_path: Path, tiny_folder: Folders, request_of: Requests) -> None:
    document = tmp_path / "document.txt"
    document.write_text("The library opens at nine and closes at six. It lends books for three weeks. " * 2)
    task = {"guidance": None, "template": None, "max_new_tokens": 4}
    asked = request_of(None, tiny_folder("llama"), tmp_path / "run", task=task, settings=ONE_RATE)
    settings = DistillSettings(document=str(document), questions=24, num_virtual_tokens=8)
    found = distill(asked, settings)
    assert found.systems["teacher"]["tokens"] > 150
    asked_rows = [json.loads(line)["question"] for line in _lines(tmp_path / "run/teacher/questions.jsonl")]
    assert len(set(asked_rows)) == 24
    again = questions(load_base(tiny_folder("llama")), document.read_text(), 5, 13, lambda done, total: None)
    assert [row["question"] for row in again] == asked_rows[:5]


def test_a_stopped_distillation_goes_on_to_the_same_file(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    settings = DistillSettings(shots=4, num_virtual_tokens=8)
    asked = request_of(labelled, tiny_folder("llama"), tmp_path / "whole", settings=ONE_RATE)
    whole = distill(asked, settings)

    def stop(name: str, done: int, total: int, **fields: object) -> None:
        if name == "train" and done:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="distill --resume"):
        distill(replace(asked, output_dir=tmp_path / "cut", progress=stop), settings)
    went_on = resume_distillation(tmp_path / "cut")
    assert _values(went_on.file) == _values(whole.file)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _values(file: str) -> list[list[float]]:
    value, _ = api.load(file)
    return [kv.values.flatten().tolist() for kv in value.sites.values()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one teacher"),
        ({"shots": 4, "document": "x"}, "one teacher"),
        ({"prompt_file": "missing.txt"}, "cannot be read"),
        ({"shots": 40}, "too few training rows"),
        ({"shots": 2, "num_virtual_tokens": 400}, "no shorter than the teacher"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    with pytest.raises(SettingsError, match=message):
        distill(request_of(labelled, tiny_folder("llama"), tmp_path / "run"), DistillSettings(**settings))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_base_that_asks_too_little_is_told_of(llama: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreword.studies.distill.self_questions.decode", lambda *given: [[97]] * 8)
    with pytest.raises(DataError, match="no more different questions"):
        questions(llama, "A text.", 4, 0, lambda done, total: None)


def test_only_decoders_have_a_teacher(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    with pytest.raises(UnsupportedBaseError, match="keys and values"):
        distill(request_of(labelled, tiny_folder("t5"), tmp_path / "run"), DistillSettings(shots=4))
