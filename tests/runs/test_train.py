"""Whole runs on tiny bases: what is written, that figures can be recomputed, that the file answers the same again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score

from foreword import api
from foreword.artifact.store import load
from foreword.errors import (
    BaseMismatchError,
    DataError,
    ForewordError,
    NothingLearnedError,
    SettingsError,
)
from foreword.evaluation.predictions import read_jsonl
from foreword.methods.base import registry
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.train import TrainResult
from foreword.settings.schema import TrainRequest
from foreword.training.loop import Score

Requests = Callable[..., TrainRequest]

HEAD = {"guidance": "Say yes or no.\n", "template": "{{ text }}:", "head": True}
WORDS = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}
PAIRS = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}


@dataclass(frozen=True)
class Case:
    family: str
    task: str
    method: str

    def __str__(self) -> str:
        return f"{self.family}-{self.task}-{self.method}"


CASES = [
    *(Case("llama", "words", method) for method in registry()),
    Case("bert", "head", "prefix"),
    Case("roberta", "head", "prompt"),
    Case("gpt2", "pairs", "prefix"),
    Case("t5", "pairs", "prefix"),
    Case("t5", "words", "prefix"),
    Case("bart", "words", "prompt"),
]
SOFT = {"template": "{{ soft('It is') }}{{ text }}{{ soft(2) }}:"}
TASKS: dict[str, dict[str, Any]] = {"head": HEAD, "words": WORDS, "pairs": PAIRS}


def task_of(case: Case) -> dict[str, Any]:
    """The task of a case, with soft slots where its method fills them."""
    return {**TASKS[case.task], **(SOFT if registry()[case.method].fills_slots else {})}


@dataclass(frozen=True)
class Done:
    """A finished run and what the user sees of it."""

    case: Case
    result: TrainResult
    folder: Path
    base: str
    report: dict[str, Any]
    progress: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    base: Callable[[str], str],
    data_of: Callable[[str], str],
    request_of: Requests,
) -> Callable[[Case], Done]:
    """A run of each case, made once."""

    @cache
    def make(case: Case) -> Done:
        folder = tmp_path_factory.mktemp("run") / str(case)
        seen: list[tuple[str, int, int]] = []

        def progress(name: str, done: int, total: int, **fields: object) -> None:
            seen.append((name, done, total))

        asked = {"task": task_of(case), "method": case.method, "progress": progress}
        made = api.train(request_of(data_of(case.task), base(case.family), folder, **asked))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return Done(case, made, folder, base(case.family), report, seen)

    return make


@pytest.fixture(scope="module")
def data_of(
    tmp_path_factory: pytest.TempPathFactory, rows_of: Callable[[str, int], list[dict[str, str]]]
) -> Callable[[str], str]:
    """The data file of a kind of task."""

    @cache
    def make(task: str) -> str:
        path = tmp_path_factory.mktemp("data") / f"{task}.csv"
        pd.DataFrame(rows_of(task, 30 if task == "pairs" else 60)).to_csv(path, index=False)
        return str(path)

    return make


every_case = pytest.mark.parametrize("case", CASES, ids=str)


# --- what a run leaves


@every_case
def test_the_folder_of_a_run(finished: Callable[[Case], Done], case: Case) -> None:
    done = finished(case)
    names = {path.name for path in done.folder.iterdir()}
    assert {"model.foreword", "run.json", "settings.yaml", "report.json", "report.md", "report.html"} <= names
    assert ("trainer_log.jsonl" in names) == (case.method != "text")
    assert not [name for name in names if name.startswith(".") or "partial" in name]
    assert done.result.file == str(done.folder / "model.foreword")
    assert done.result.bytes == Path(done.result.file).stat().st_size
    assert (
        done.result.rows == {"train": 21, "dev": 3, "test": 6}
        if case.task == "pairs"
        else {"train": 42, "dev": 6, "test": 12}
    )
    json.dumps(done.result.to_json(), allow_nan=False)
    assert done.result.file in done.result.render()


@every_case
def test_figures_are_those_of_the_predictions(finished: Callable[[Case], Done], case: Case) -> None:
    done = finished(case)
    for system, figures in done.result.systems.items():
        rows = read_jsonl(done.folder / "predictions" / f"{system}.jsonl")
        assert len(rows) == figures["rows"] == done.result.rows["test"]
        assert len({row.id for row in rows}) == len(rows)
        outputs, golds = [row.output for row in rows], [row.gold for row in rows]
        if case.task == "pairs":
            expected = {"exact_match": float(np.mean([o == g for o, g in zip(outputs, golds, strict=True)]))}
            nll, count = (sum(row.scores[name] for row in rows) for name in ("gold_nll", "gold_tokens"))
            expected["perplexity"] = float(np.exp(nll / count))
        else:
            expected = {
                "accuracy": accuracy_score(golds, outputs),
                "macro_f1": f1_score(golds, outputs, average="macro", zero_division=0),
            }
            assert {row.output for row in rows} <= {"no", "yes"}
        for name, value in expected.items():
            figure = figures["metrics"][name]
            assert figure["value"] == pytest.approx(value, rel=1e-6), name
            assert figure["low"] is None or figure["low"] <= figure["value"] <= figure["high"]
        assert done.report["systems"][system]["metrics"] == json.loads(json.dumps(figures["metrics"]))


@every_case
def test_the_difference_is_that_of_the_rows(finished: Callable[[Case], Done], case: Case) -> None:
    done = finished(case)
    if set(done.result.systems) != {"prompt", "foreword"}:
        assert done.result.difference is None
        return
    difference = done.result.difference
    assert difference is not None
    values = {name: figures["metrics"][done.result.metric]["value"] for name, figures in done.result.systems.items()}
    assert difference["estimate"] == pytest.approx(values["foreword"] - values["prompt"])
    assert difference["interval"]["low"] <= difference["estimate"] <= difference["interval"]["high"]
    assert difference["rows"] == done.result.rows["test"]


@every_case
def test_the_report_says_what_was_run(finished: Callable[[Case], Done], case: Case) -> None:
    done = finished(case)
    report = done.report
    assert report["method"]["name"] == case.method
    assert report["base"]["id"] == done.base
    assert {name: split["rows"] for name, split in report["data"].items()} == done.result.rows
    assert report["file"]["bytes"] == done.result.bytes
    assert report["training"]["metric"] == done.result.metric
    if case.method == "text":
        return
    steps = report["training"]["steps"]
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == 2 * int(np.ceil(done.result.rows["train"] / 8))
    assert report["training"]["best_step"] in {e["step"] for e in report["training"]["evaluations"]}
    log = [json.loads(line) for line in (done.folder / "trainer_log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in log if "loss" in line] == [step["loss"] for step in steps]
    assert [line["eval_metric"] for line in log if "eval_metric" in line] == [
        e["value"] for e in report["training"]["evaluations"]
    ]


@every_case
def test_what_is_saved_is_the_best_on_dev(finished: Callable[[Case], Done], case: Case) -> None:
    """Never worse on dev than the prompt it started from; if nothing beats it, the text itself is saved."""
    done = finished(case)
    value, manifest = load(done.result.file)
    if done.result.floor is not None:
        assert done.result.dev is not None
        assert done.result.dev >= done.result.floor
    if done.result.outcome == "text":
        assert (value.num_virtual_tokens, value.head) == (0, {})
        assert value.text == TASKS[case.task]["guidance"]
        assert manifest.method == "text"
        assert done.result.learning_rate is None
        if case.method != "text":
            assert any("the text itself is saved" in alarm for alarm in done.result.alarms)
            assert "text itself is saved" in done.result.render()
        return
    assert manifest.method == case.method
    assert done.result.dev == max(e["value"] for e in done.report["training"]["evaluations"])
    assert manifest.settings["learning_rate"] == done.result.learning_rate == 5e-2


@every_case
def test_progress_is_told(finished: Callable[[Case], Done], case: Case) -> None:
    done = finished(case)
    assert all(0 <= count <= total for _, count, total in done.progress)
    last = {name: (count, total) for name, count, total in done.progress}
    assert all(count == total for count, total in last.values()), last
    assert ("train" in last) == (case.method != "text")
    assert any(name.startswith("test") for name in last)


# --- the file in use


@every_case
def test_the_file_answers_the_same_again(
    finished: Callable[[Case], Done], case: Case, data_of: Callable[[str], str], tmp_path: Path
) -> None:
    done = finished(case)
    verified = api.verify(done.result.file)
    assert verified.ok, verified.render()
    assert len(verified.rows) == done.result.rows["test"]
    saved = {row.id: row for row in read_jsonl(done.folder / "predictions" / "foreword.jsonl")}
    rows = api.predict(done.result.file, data_of(case.task), output=tmp_path / "out.jsonl")
    assert len(rows) == sum(done.result.rows.values())
    found = {row.input: row for row in rows}
    for row in saved.values():
        assert found[row.input].output == row.output
        for name, score in row.scores.items():
            if case.task != "pairs":
                assert found[row.input].scores[name] == pytest.approx(score, abs=1e-4)
    assert [(p.id, p.output) for p in read_jsonl(tmp_path / "out.jsonl")] == [(p.id, p.output) for p in rows]


@every_case
def test_evaluating_the_file(
    finished: Callable[[Case], Done], case: Case, data_of: Callable[[str], str], tmp_path: Path
) -> None:
    done = finished(case)
    figures = api.evaluate(done.result.file, data_of(case.task), output=tmp_path / "out.jsonl")
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert figures["rows"] == len(rows) == sum(done.result.rows.values())
    name = "exact_match" if case.task == "pairs" else "accuracy"
    assert figures["metrics"][name]["value"] == pytest.approx(np.mean([p.output == p.gold for p in rows]))
    with pytest.raises(SettingsError):
        api.evaluate(done.result.file, data_of(case.task), metrics=("acuracy",))


def test_metrics_that_are_asked_for(finished: Callable[[Case], Done], data_of: Callable[[str], str]) -> None:
    done = finished(CASES[0])
    figures = api.evaluate(done.result.file, data_of("words"), metrics=("micro_f1",))
    assert set(figures["metrics"]) == {"accuracy", "micro_f1"}


def test_one_text(finished: Callable[[Case], Done]) -> None:
    words, pairs = finished(Case("llama", "words", "prefix")), finished(Case("gpt2", "pairs", "prefix"))
    (answer,) = api.predict(words.result.file, text="abxdefgh")
    assert answer.output in ("no", "yes")
    assert answer.input == "abxdefgh:"
    written = api.generate(pairs.result.file, "abc")
    assert written == api.predict(pairs.result.file, text="abc")[0].output
    longer = api.generate(pairs.result.file, "abc", max_new_tokens=9)
    assert longer.startswith(written[:3])
    with pytest.raises(SettingsError, match="does not write"):
        api.generate(words.result.file, "abc")
    with pytest.raises(SettingsError, match="not both"):
        api.predict(words.result.file)
    with pytest.raises(SettingsError, match="not both"):
        api.predict(words.result.file, [{"text": "a"}], text="a")


def test_rows_without_labels_are_predicted(finished: Callable[[Case], Done]) -> None:
    done = finished(Case("llama", "words", "prefix"))
    rows = api.predict(done.result.file, [{"text": "abc"}, {"text": "xyz"}])
    assert [row.gold for row in rows] == ["", ""]
    with pytest.raises(ForewordError):
        api.predict(done.result.file, [{"other": "abc"}])
    with pytest.raises(DataError):
        api.predict(done.result.file, [{"text": "abcdefgh" * 80}])  # longer than the base reads


def test_a_base_whose_weights_differ_in_one_byte_is_refused(finished: Callable[[Case], Done], tmp_path: Path) -> None:
    import shutil

    done = finished(Case("llama", "words", "prefix"))
    other = tmp_path / "other"
    shutil.copytree(done.base, other)
    assert api.verify(done.result.file, base=str(other)).ok  # a copy elsewhere is the same base
    content = bytearray((other / "model.safetensors").read_bytes())
    content[-1] ^= 0x40
    (other / "model.safetensors").write_bytes(bytes(content))
    for use in (
        lambda: api.verify(done.result.file, base=str(other)),
        lambda: api.predict(done.result.file, text="abc", base=str(other)),
    ):
        with pytest.raises(BaseMismatchError, match="weights"):
            use()


def test_golden_rows_that_come_out_otherwise_are_shown(finished: Callable[[Case], Done], tmp_path: Path) -> None:
    from foreword.artifact.store import save
    from foreword.core.inject.value import Foreword, KeyValue

    done = finished(Case("t5", "words", "prefix"))
    value, manifest = load(done.result.file)
    golden = [g.model_copy(update={"output": "yes" if g.output == "no" else "no"}) for g in manifest.golden[:2]]
    changed = manifest.model_copy(update={"golden": [*golden, *manifest.golden[2:]]})
    save(tmp_path / "outputs.foreword", value, changed)
    report = api.verify(tmp_path / "outputs.foreword")
    assert not report.ok
    assert [row["row"] for row in report.rows if not row["equal"]] == [0, 1]
    assert "2 of 12 golden rows" in report.render()
    assert "another answer" in report.render()

    moved = {name: KeyValue(kv.keys, kv.values * 1.05) for name, kv in value.sites.items()}
    save(tmp_path / "values.foreword", Foreword(sites=moved), manifest)
    report = api.verify(tmp_path / "values.foreword")
    assert not report.ok
    assert "score changed" in report.render() or "another answer" in report.render()


def test_ls_show_and_doctor(finished: Callable[[Case], Done], tmp_path: Path) -> None:
    done = finished(Case("llama", "words", "prefix"))
    facts = api.show(done.result.file)
    assert facts["num_values"] == done.result.num_values
    assert facts["golden_rows"] == 12
    assert facts["base"]["id"] == done.base
    (tmp_path / "damaged.foreword").write_bytes(b"nothing")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "good.foreword").write_bytes(Path(done.result.file).read_bytes())
    listed = {Path(row["file"]).name: row for row in api.ls(tmp_path)}
    assert set(listed) == {"damaged.foreword", "good.foreword"}
    assert listed["damaged.foreword"]["problem"]
    assert listed["good.foreword"]["virtual_tokens"] == facts["num_virtual_tokens"]
    about = api.doctor()
    assert about["versions"]["torch"] == torch.__version__
    assert "cpu" in about["devices"]
    json.dumps(about, default=str)


# --- what is not learned


def test_the_floor_holds(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the prompt answers every dev row right, nothing can beat it: the prompt is what is saved, and it says so."""
    real = DevScore.__call__

    def score(self: Any, value: Any) -> Score:
        return Score(2.0, 0.0) if value.text else real(self, value)

    monkeypatch.setattr(DevScore, "__call__", score)
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run"))
    assert made.outcome == "text"
    assert made.difference is None
    assert "nothing was gained on dev over the text prompt: the text itself is saved" in made.alarms
    assert "the text itself is saved" in made.render()
    value, manifest = load(made.file)
    assert (value.text, value.num_virtual_tokens, manifest.method) == ("Say yes or no.\n", 0, "text")
    assert api.verify(made.file).ok
    assert "prompt itself was saved" in json.loads((tmp_path / "run" / "report.json").read_text())["verdict"]


def test_no_rate_that_works(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foreword.training.objective import Choose

    real = Choose.losses
    monkeypatch.setattr(Choose, "losses", lambda self, *args: real(self, *args) * float("nan"))
    asked = request_of(
        labelled, base("llama"), tmp_path / "run", settings={"learning_rate": None, "sweep": (1e-2, 1e-3)}
    )
    with pytest.raises(NothingLearnedError, match="no learning rate worked") as caught:
        api.train(asked)
    assert caught.value.exit_code == 1
    assert "learning rate 0.01: step 1 is not finite" in str(caught.value)
    assert "learning rate 0.001" in str(caught.value)
    assert not (tmp_path / "run" / "model.foreword").exists()


def test_a_rate_that_fails_is_told_and_the_next_is_saved(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foreword.training.loop import Step, Trial
    from foreword.training.step import Total

    real = Trial.finish

    def finish(self: Trial, total: Total) -> Step:
        return real(self, replace(total, loss=float("nan")) if self.learning_rate == 1e-1 else total)

    monkeypatch.setattr(Trial, "finish", finish)
    made = api.train(
        request_of(labelled, base("llama"), tmp_path / "run", settings={"learning_rate": None, "sweep": (1e-1, 5e-2)})
    )
    assert any(alarm.startswith("learning rate 0.1: step 1 is not finite") for alarm in made.alarms)
    assert made.learning_rate in (5e-2, None)
    sweep = json.loads((tmp_path / "run" / "report.json").read_text())["training"]["sweep"]
    assert [(row["learning_rate"], row["failure"] is None) for row in sweep] == [(0.1, False), (0.05, True)]


def test_alarms(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> None:
    """A rate so small that nothing moves: the loss stands still, and the answers with it."""
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", settings={"learning_rate": 1e-9}))
    text = "\n".join(made.alarms)
    assert "the training loss did not move" in text
    rows = read_jsonl(tmp_path / "run" / "predictions" / "foreword.jsonl")
    constant = len({row.output for row in rows}) == 1
    assert ("the same answer to every dev row" in text) == constant
    if constant:
        assert "no better on dev than always saying the most frequent label (0.500)" in text
    assert json.loads((tmp_path / "run" / "report.json").read_text())["warnings"] == made.alarms


# --- what is refused


def test_an_occupied_folder_is_refused(finished: Callable[[Case], Done], labelled: str, request_of: Requests) -> None:
    done = finished(CASES[0])
    before = Path(done.result.file).read_bytes()
    with pytest.raises(SettingsError, match="holds a run already"):
        api.train(request_of(labelled, done.base, done.folder))
    assert Path(done.result.file).read_bytes() == before


@pytest.mark.parametrize(
    ("family", "task", "method", "error"),
    [
        ("bert", "words", "prefix", SettingsError),
        ("bert", "pairs", "prefix", SettingsError),
        ("bert", "head", "text", SettingsError),
        ("llama", "words", "prefixx", SettingsError),
        ("qwen3_next", "words", "prompt", ForewordError),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left_behind(
    tmp_path: Path,
    base: Callable[[str], str],
    data_of: Callable[[str], str],
    request_of: Requests,
    family: str,
    task: str,
    method: str,
    error: type[ForewordError],
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(error):
        api.train(request_of(data_of(task), base(family), folder, task=TASKS[task], method=method))
    assert not folder.exists()


def test_more_virtual_tokens_than_the_base_has_positions_for(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    """The rows must fit behind what is learned, which may be longer than the guidance."""
    with pytest.raises(SettingsError, match="no room for the rows"):
        api.train(request_of(labelled, base("gpt2"), tmp_path / "run", method_settings={"num_virtual_tokens": 505}))
    made = api.train(
        request_of(
            labelled,
            base("gpt2"),
            tmp_path / "fits",
            method_settings={"num_virtual_tokens": 490},
            settings={"max_steps": 1},
        )
    )
    assert api.verify(made.file).ok


def test_an_encoder_reads_as_much_with_a_prefix_as_without(
    tmp_path: Path,
    base: Callable[[str], str],
    request_of: Requests,
    rows_of: Callable[[str, int], list[dict[str, str]]],
) -> None:
    """Keys and values take no position of an encoder: a row as long as its context trains, and is read again."""
    rows = [{**row, "text": row["text"] + "q" * 500} for row in rows_of("words", 30)]
    made = api.train(
        request_of(
            rows,
            base("bert"),
            tmp_path / "run",
            task={**HEAD, "guidance": ""},
            method_settings={"init": "random", "num_virtual_tokens": 20},
            settings={"max_steps": 1},
        )
    )
    assert len(api.predict(made.file, rows[:2])) == 2


def test_damaged_tensors_are_refused(finished: Callable[[Case], Done], tmp_path: Path) -> None:
    done = finished(Case("llama", "words", "prefix"))
    tensors = load_file(done.result.file)
    save_file(tensors, tmp_path / "bare.foreword")
    with pytest.raises(ForewordError):
        api.verify(tmp_path / "bare.foreword")


# --- other sources and ways


@pytest.mark.parametrize("source", ["frame", "dataset", "list"])
def test_data_in_memory(
    tmp_path: Path,
    base: Callable[[str], str],
    request_of: Requests,
    data_of: Callable[[str], str],
    finished: Callable[[Case], Done],
    source: str,
) -> None:
    """The same rows give the same foreword, wherever they come from."""
    frame = pd.read_csv(data_of("words"))
    data: object = {"frame": frame, "list": frame.to_dict("records"), "dataset": None}[source]
    if source == "dataset":
        data = pytest.importorskip("datasets").Dataset.from_pandas(frame)
    made = api.train(request_of(data, base("llama"), tmp_path / "run"))
    file = finished(Case("llama", "words", "prefix")).result
    assert load(made.file)[0].digest() == load(file.file)[0].digest()
    assert made.systems["foreword"]["metrics"] == file.systems["foreword"]["metrics"]
    assert len(api.predict(made.file, data)) == 60


def test_given_splits_are_used_as_they_are(
    tmp_path: Path,
    base: Callable[[str], str],
    request_of: Requests,
    rows_of: Callable[[str, int], list[dict[str, str]]],
) -> None:
    rows = rows_of("words", 60)
    made = api.train(request_of(rows[:40], base("llama"), tmp_path / "run", dev=rows[40:48], test=rows[48:]))
    assert made.rows == {"train": 40, "dev": 8, "test": 12}
    found = read_jsonl(tmp_path / "run" / "predictions" / "foreword.jsonl")
    assert [row.input.rstrip(":") for row in found] == [row["text"] for row in rows[48:]]
    assert Counter(row.gold for row in found) == Counter(row["label"] for row in rows[48:])


def test_without_a_test_split(tmp_path: Path, base: Callable[[str], str], request_of: Requests, labelled: str) -> None:
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", task={**WORDS, "test_fraction": 0}))
    assert made.systems == {}
    assert made.difference is None
    assert api.verify(made.file).ok


def test_gradient_checkpointing_and_accumulation_learn_the_same(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests, labelled: str
) -> None:
    settings = {"gradient_checkpointing": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
    plain = api.train(
        request_of(
            labelled,
            base("llama"),
            tmp_path / "a",
            settings={"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        )
    )
    saving = api.train(request_of(labelled, base("llama"), tmp_path / "b", settings={**settings, "max_steps": 2}))
    for got, expected in zip(
        load(saving.file)[0].tensors().values(), load(plain.file)[0].tensors().values(), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    "case", [CASES[0], CASES[1], Case("bert", "head", "prefix"), Case("t5", "pairs", "prefix")], ids=str
)
def test_a_dry_run_tells_and_writes_nothing(
    tmp_path: Path, base: Callable[[str], str], data_of: Callable[[str], str], request_of: Requests, case: Case
) -> None:
    folder = tmp_path / "run"
    plan = api.dry_run(
        request_of(
            data_of(case.task),
            base(case.family),
            folder,
            task=task_of(case),
            method=case.method,
            settings={"learning_rate": None},
        )
    )
    assert not folder.exists()
    assert plan["rows"]["train"] == (21 if case.task == "pairs" else 42)
    assert plan["trainable_values"] > 0
    assert plan["learning_rates"] == list(registry()[case.method].learning_rates)
    assert plan["seconds_per_step"] > 0
    assert plan["estimated_seconds"] > 0
    json.dumps(plan, allow_nan=False)


def test_a_chat_model(tmp_path: Path, labelled: str, request_of: Requests, chat_base: str) -> None:
    made = api.train(request_of(labelled, chat_base, tmp_path / "run", task={**WORDS, "chat": True}))
    assert api.verify(made.file).ok
    (answer,) = api.predict(made.file, text="abx")
    assert "abx" in answer.input
    assert "assistant" in answer.input
