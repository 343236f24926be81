"""Rows with several labels: read, trained by words and by a head, saved, answered, served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.core.base.load import load_base
from foreword.data.quality.check import check_tables
from foreword.data.quality.split import split
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.label_sets import NO_LABEL, joined, labels_in
from foreword.data.task.task import Task
from foreword.data.tokens.tokenize import label_ids
from foreword.errors import DataError, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction, read_jsonl
from foreword.evaluation.report.summary import evaluate
from foreword.evaluation.thresholds import at_thresholds, choose_thresholds
from foreword.runs.train.result import TrainResult
from foreword.testing import byte_tokenizer
from tests.serve.conftest import serving

Train = Callable[..., TrainResult]
LETTERS = {"x": "ex", "z": "zed", "q": "cue"}


def rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Letters; each of x, z and q among them is a label."""
    rng = np.random.default_rng(seed)
    out: list[dict[str, object]] = []
    for _ in range(count):
        has = [letter for letter in LETTERS if rng.random() < 0.5]
        letters = [*rng.choice(list("abcdefgh"), 7 - len(has)), *has]
        rng.shuffle(letters)
        out.append({"text": "".join(letters), "labels": [LETTERS[letter] for letter in has]})
    return out


def test_lists_of_labels_are_recognised_and_columns_with_marks_between_when_asked(tmp_path: Path) -> None:
    table = read([{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": ["x"]}, {"text": "c", "labels": []}])
    assert table.layout.kind == "multilabel"
    assert [row.fields["labels"] for row in table.rows] == [["x", "y"], ["x"], []]
    wanted = [["art, craft", "sport"], ["sport"], []]
    for text in ('"sport|art, craft"', '"art, craft; sport"', '"[""sport"", ""art, craft""]"'):
        (tmp_path / "a.csv").write_text(f"text,label\na,{text}\nb,sport\nc,\n")
        table = read(tmp_path / "a.csv", kind="multilabel")
        assert [row.fields["label"] for row in table.rows] == wanted
    assert read([{"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}]).layout.kind == "classification"


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b c"], ["a; b"], ["(none)"], ["[x]", "y"]])
def test_labels_as_one_text_are_read_back(labels: list[str]) -> None:
    assert list(labels_in(joined(labels))) == labels


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    names = np.array(["a", "b", "c", "d"])
    gold, said = rng.random((40, 4)) < 0.3, rng.random((40, 4)) < 0.4
    texts = [[joined(names[row]) for row in table] for table in (said, gold)]
    for metric, average in (("labels_micro_f1", "micro"), ("labels_macro_f1", "macro")):
        wanted = f1_score(gold, said, average=average, zero_division=0)
        assert get_metric(metric).corpus(*texts) == pytest.approx(wanted)
    assert get_metric("labels_exact").corpus(*texts) == pytest.approx((gold == said).all(1).mean())
    answers = [Prediction(str(i), "", *pair) for i, pair in enumerate(zip(*texts, strict=True))]
    found = evaluate(answers, "multilabel", labels=list(names))
    assert found["report"]["classes"]["a"]["f1"] == pytest.approx(f1_score(gold[:, 0], said[:, 0]))
    assert found["report"]["classes"]["b"]["support"] == gold[:, 1].sum()


def test_thresholds_are_the_best_for_labels_with_enough_rows() -> None:
    def answer(number: int, share: float, rare: float, gold: list[str]) -> Prediction:
        scores = {"often": float(np.log(share)), "rare": float(np.log(rare))}
        return Prediction(str(number), "", "", joined(gold), scores=scores)

    found = [answer(i, 0.02 * i + 0.01, 0.3, ["often"] if i >= 10 else []) for i in range(20)]
    found[3] = answer(3, 0.07, 0.9, ["rare"])
    limits = choose_thresholds(found)
    assert 0.19 < limits["often"] < 0.21
    assert limits["rare"] != limits["often"]
    changed = at_thresholds(found, limits)
    assert [one.output for one in changed[9:11]] == [NO_LABEL, "often"] or limits["rare"] < 0.3
    assert get_metric("labels_micro_f1").corpus([p.output for p in changed], [p.gold for p in changed]) > 0.9


def test_the_check_counts_labels_and_names_what_is_wrong() -> None:
    table = read(
        [
            {"text": "first", "labels": ["sport", "art"]},
            {"text": "second", "labels": ["art"]},
            {"text": "third", "labels": []},
            {"text": "fourth", "labels": ["sprot"]},
            {"text": "fifth", "labels": [{"name": "art"}]},
            {"text": "sixth"},
            {"text": "first", "labels": ["art"]},
        ],
        kind="multilabel",
    )
    task = make_task(table, labels=["art", "sport"])
    assert task.metric == "labels_micro_f1"
    assert task.guidance.startswith(
        "Decide which labels fit the text, one or several: art, sport. If none fits, say none"
    )
    report = check_tables({"train": table}, task)
    kinds = {(problem.kind, problem.where) for problem in report.errors}
    assert kinds == {
        ("unknown_label", "list:4"), ("not_text", "list:5"), ("missing", "list:6"),
        ("conflict", "list:1"), ("conflict", "list:7"),
    }  # fmt: skip
    assert report.balance["train"] == {"art": 3, "sport": 1, "sprot": 1}
    assert any("labels a row: 0 in" in note for note in report.notes)


def test_a_split_spreads_rare_labels() -> None:
    table = read([*rows(60), *({"text": f"r{i}", "labels": ["ex", "rare"]} for i in range(6))], kind="multilabel")
    parts = split(table, dev=0.2, test=0.3, seed=1).tables()
    assert all(any("rare" in row.fields["labels"] for row in part.rows) for part in parts.values())  # type: ignore[operator]


def test_words_for_no_label_are_none_that_a_label_has() -> None:
    table = read([{"text": "a", "labels": ["none", "x"]}, {"text": "b", "labels": ["x"]}], kind="multilabel")
    task = make_task(table)
    assert task.absent == " no label"
    assert len(label_ids(task, byte_tokenizer())) == 3
    assert Task.from_json(task.to_json()) == task


@pytest.mark.parametrize(("family", "head"), [("llama", False), ("llama", True), ("bert", True), ("t5", False)])
def test_from_training_to_the_server(
    family: str, head: bool, base: Callable[[str], str], request_of: Train, tmp_path: Path
) -> None:
    settings = {"num_train_epochs": 4.0}
    result = api.train(request_of(rows(80), base(family), tmp_path / "run", task={"head": head}, settings=settings))
    assert result.metric == "labels_micro_f1"
    assert "thresholds chosen on dev" in result.text
    assert set(result.systems["foreword"]["metrics"]) == {"labels_micro_f1", "labels_macro_f1", "labels_exact"}
    assert set(result.systems["foreword"]["report"]["classes"]) == {"cue", "ex", "zed"}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "labels_micro_f1" in report["systems"]["foreword"]["metrics"]
    value, manifest = load(result.file)
    assert bool(value.head) is (head and result.outcome == "learned")
    thresholds = manifest.task["thresholds"]
    assert isinstance(thresholds, dict)
    assert set(thresholds) == {"cue", "ex", "zed"}
    assert api.verify(result.file).ok
    test = rows(12, seed=9)
    found = api.evaluate(result.file, test)
    answers = api.predict(result.file, test)
    texts = [joined(sorted(map(str, row["labels"]))) for row in test]  # type: ignore[call-overload]
    assert [answer.gold for answer in answers] == texts
    assert found["metrics"]["labels_exact"]["value"] == pytest.approx(np.mean([a.output == a.gold for a in answers]))
    with serving(load_base(base(family)), Path(result.file)) as client:
        body = {"model": Path(result.file).stem, "input": [row["text"] for row in test]}
        served = client.post("/v1/classify", json=body).json()["data"]
    assert [row["label"] for row in served] == [answer.output for answer in answers]
    assert [row["labels"] for row in served] == [list(labels_in(answer.output)) for answer in answers]


def test_a_joined_column_through_the_command_line(
    base: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{row['text']},{'|'.join(row['labels'])}" for row in rows(60)]  # type: ignore[arg-type]
    data = tmp_path / "tags.csv"
    data.write_text("text,label\n" + "\n".join(lines) + "\n")
    run = tmp_path / "run"
    asked = ["train", str(data), "--base", base("llama"), "--output-dir", str(run), "--task", "multilabel"]
    assert main([*asked, "--set", "learning_rate=0.05", "--set", "max_steps=4", "--metric", "macro_f1"]) == 0
    capsys.readouterr()
    out = tmp_path / "answers.jsonl"
    assert main(["evaluate", str(run / "model.foreword"), str(data), "--output", str(out)]) == 0
    assert "Macro F1 of labels" in capsys.readouterr().out
    assert {answer.gold for answer in read_jsonl(out)} >= {NO_LABEL, "cue", "cue; ex"}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels"):
        make_task(read([{"text": "a", "labels": []}, {"text": "b", "labels": []}], kind="multilabel"))
    with pytest.raises(SettingsError, match="metric"):
        make_task(read(rows(4)), metric="bleu")
    one = read([{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["z", "w"]}])
    assert one.layout.kind == "classification"
    [problem, _] = check_tables({"train": one}, None).errors
    assert "--task multilabel" in problem.message
