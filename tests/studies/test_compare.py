"""Comparisons on tiny models, from a file to the verdict: figures that trace to rows, interruptions, gates, doing it
again."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from foreword.artifact.store import load
from foreword.errors import FileFormatError, ResumeError, SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import read_jsonl
from foreword.runs.workers.pool import Workers
from foreword.runs.workers.worker import STATE
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.studies.compare.compare import compare, resume_comparison
from foreword.studies.compare.compare_contents import answers_digest
from foreword.studies.compare.compare_result import CompareResult
from foreword.studies.compare.decisions import columns
from foreword.studies.compare.reproduce import reproduce
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.compare.stages import Work
from foreword.studies.compare.system_names import title
from foreword.training.loop import Trial
from tests.runs.conftest import kill_one, save_tiny

OPTIONS = CompareOptions(budget="10min", methods=("prefix", "prompt"), seeds=2)


class Killed(BaseException):
    """A kill: nothing is tidied up."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("compare") / "llama", "llama"))


def labelled(path: Path, count: int, seed: int = 0) -> str:
    dice = random.Random(seed)
    rows = []
    for i in range(count):
        letters = [dice.choice("abcdefghijklmnop") for _ in range(8)]
        letters[dice.randrange(8)] = "zx"[i % 2]
        rows.append({"text": "".join(letters), "label": ["no", "yes"][i % 2]})
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def tagged(count: int, seed: int) -> list[dict[str, Any]]:
    """An x begins a span and a y behind it goes on; a y alone is outside."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(5):
            words.append(dice.choice("abcdefy"))
            tags.append("O")
            if dice.random() < 0.3:
                words += ["x", "y", "d"]
                tags += ["B-thing", "I-thing", "O"]
        rows.append({"tokens": words, "tags": tags})
    return rows


def request(data: str, base: str, folder: Path, **more: Any) -> TrainRequest:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 8, "num_train_epochs": 1.0, "learning_rate": 5e-2, "num_threads": 1,
        "side_by_side": "off", **more.pop("settings", {}),
    }  # fmt: skip
    task: dict[str, Any] = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}
    return TrainRequest(
        data=data, base=base, output_dir=folder, settings=TrainSettings(**settings), task_options=TaskOptions(**task),
        **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, base: str) -> tuple[CompareResult, Path, str]:
    """A comparison with everything that can be asked for."""
    folder = tmp_path_factory.mktemp("made")
    data = labelled(folder / "rows.csv", 80)
    pool = folder / "pool.csv"
    pd.DataFrame({"text": [f"{one}bcdefgh" for one in "abcdefghijkl"]}).to_csv(pool, index=False)
    options = replace(
        OPTIONS, curve=True, pool=str(pool), label_next=5, other=labelled(folder / "other.csv", 10, 3),
        require="prefix > prompt + 2", price_input=1.0,
    )  # fmt: skip
    return compare(request(data, base, folder / "out"), options), folder / "out", data


def test_every_system_is_there_and_traces_to_rows(made: tuple[CompareResult, Path, str]) -> None:
    result, folder, _ = made
    assert list(result.systems) == [
        "majority", "tfidf", "prompt", "best_prompt", "few_shot", "prefix", "prompt_tuning",
    ]  # fmt: skip
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    metric, ids = get_metric("accuracy"), None
    for name, runs in report["records"].items():
        scores = []
        for run in runs:
            rows = read_jsonl(folder / run["predictions"])
            assert ids is None or {p.id for p in rows} == ids  # the same rows for all
            ids = {p.id for p in rows}
            assert answers_digest(rows) == run["answers"]
            scores.append(metric.corpus(*columns(metric, rows)))
        assert report["systems"][name]["metrics"]["accuracy"]["value"] == pytest.approx(sum(scores) / len(scores))
    assert len(report["records"]["prefix"]) == len({run["seed"] for run in report["records"]["prefix"]}) == 2
    assert result.systems["tfidf"]["metrics"]["accuracy"]["value"] > 0.7


def test_the_verdict_names_what_dev_chose(made: tuple[CompareResult, Path, str]) -> None:
    result, folder, _ = made
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    chosen = report["chosen_on_dev"]
    assert chosen["prompt"] in ("prompt", "best_prompt", "few_shot")
    assert chosen["trained"] in ("prefix", "prompt_tuning")
    assert {c["b"] for c in result.comparisons["worth"]} == {chosen["prompt"]}
    assert {c["a"] for c in result.comparisons["worth"]} == {"prefix", "prompt_tuning"}
    assert {c["b"] for c in result.comparisons["which"]} == {chosen["trained"]}
    assert result.verdict[0] == report["verdict"]
    assert result.verdict[0].startswith("Do not train: TF-IDF with logistic regression is better")
    assert result.render().startswith(result.verdict[0])
    # What "your best prompt" is stands where the verdict is read, word for word.
    lines = next(table["lines"] for table in report["tables"] if table["title"] == "The prompts")
    texts = {line[0]: line[1] or line[2] for line in lines}
    best = title(chosen["prompt"])
    assert f"{best}: {texts[best[0].upper() + best[1:]]!r}" in result.render().splitlines()
    assert "the most frequent label" in result.render()


def test_costs_retention_and_the_rest(made: tuple[CompareResult, Path, str]) -> None:
    result, folder, _ = made
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    prefix, few = result.costs["prefix"], result.costs["few_shot"]
    assert prefix["trained_values"] > 0 < prefix["bytes"]
    assert prefix["read_tokens"] < few["read_tokens"]
    assert prefix["saved_tokens"] == pytest.approx(few["read_tokens"] - prefix["read_tokens"])
    assert prefix["training_gflop"] > 0
    assert all(cost["ms"] >= 0 for cost in result.costs.values())
    assert few["price"] == pytest.approx(
        few["read_tokens"] / 1e6 / result.systems["few_shot"]["metrics"]["accuracy"]["value"]
    )
    assert any(cost["pareto"] for cost in result.costs.values())
    assert report["retention"]["unchanged"] is True
    assert set(report["retention"]["neutral"]) == {"en", "zh"}
    assert set(report["retention"]["other"]["systems"]) == {"prefix", "prompt_tuning"}
    assert [point["rows"] for point in report["curve"]["points"]] == [7, 14, 28, 56]
    assert "more labels" in report["curve"]["sentence"].lower()
    named = [json.loads(line) for line in (folder / "label_next.jsonl").read_text().splitlines()]
    assert len(named) == 5
    assert named[0]["uncertainty"] >= named[-1]["uncertainty"] - 0.7
    assert result.gate is not None
    assert result.gate["met"] is False
    for form in ("md", "html"):
        page = (folder / f"report.{form}").read_text(encoding="utf-8")
        assert "Comparisons" in page
        assert "Learning curve" in page
    assert not list(folder.rglob("trials"))


def facts(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    keys = ("verdict_lines", "records", "comparisons", "plan", "chosen_on_dev", "systems")
    kept = {key: report[key] for key in keys}
    for found in kept["systems"].values():
        del found["ms"]
    kept["plan"].pop("seconds")
    return kept


def test_killed_anywhere_it_goes_on_and_done_again_it_agrees(tmp_path: Path, base: str) -> None:
    data = labelled(tmp_path / "rows.csv", 60, 5)
    options = replace(OPTIONS, methods=("prefix",), shots=0, seeds=3)
    more = {"settings": {"side_by_side": "on", "save_steps": 1}}
    compare(request(data, base, tmp_path / "whole", **more), options)
    whole, real = facts(tmp_path / "whole"), Trial.begin
    for stop in (1, 10):  # in the first training, and in the two that are side by side
        folder, count = tmp_path / f"stopped{stop}", [0]

        def begin(self: Trial, count: list[int] = count, stop: int = stop) -> Any:
            # The timings before the plan make three steps.
            if count[0] == stop + 3:
                raise Killed
            count[0] += 1
            return real(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trial, "begin", begin)
            with pytest.raises(Killed):
                compare(request(data, base, folder, **more), options)
        assert not (folder / "report.json").exists()
        assert len(list(folder.glob("systems/*/*/trials"))) == (1 if stop == 1 else 2)
        resume_comparison(folder)
        assert facts(folder) == whole, stop
    again = reproduce(tmp_path / "whole" / "report.json", tmp_path / "again")
    assert again.agrees
    assert again.equal
    assert {run["system"] for run in again.runs} == set(whole["systems"])
    assert "every row is answered as before" in again.render()
    with pytest.raises(FileFormatError, match="not a report"):
        reproduce(tmp_path / "whole" / "plan.json")


def test_seeds_side_by_side_are_the_seeds_one_after_another(tmp_path: Path, base: str) -> None:
    data = labelled(tmp_path / "rows.csv", 60, 5)
    options = replace(OPTIONS, methods=("prefix",), shots=0, seeds=3, curve=True)
    for how in ("on", "off"):
        compare(request(data, base, tmp_path / how, settings={"side_by_side": how}), options)
    told = {}
    for how in ("on", "off"):
        parts = [
            *sorted((tmp_path / how / "systems" / "prefix").iterdir()),
            *sorted((tmp_path / how / "curve").iterdir()),
        ]
        told[how] = {
            part.name: (json.loads((part / "done.json").read_text()), load(part / "model.foreword")[0])
            for part in parts
        }
    assert [one["abreast"] for one, _ in told["on"].values()] == [1, 2, 2, 3, 3, 3]
    assert {one["abreast"] for one, _ in told["off"].values()} == {1}
    for name, (found, value) in told["on"].items():
        alone, other = told["off"][name]
        assert found["dev_loss"] == pytest.approx(alone["dev_loss"], abs=1e-4)
        assert (found["steps"], found["alarms"]) == (alone["steps"], alone["alarms"])
        for key, tensor in other.tensors().items():
            assert torch.allclose(value.tensors()[key], tensor, atol=1e-3 * max(1.0, float(tensor.abs().max()))), name
    assert len({value.digest() for _, value in told["on"].values()}) == 6


def test_a_seed_that_fails_leaves_the_one_beside_it(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trial.finish

    def finish(self: Trial, total: Any) -> Any:
        if self.settings.seed == 14:
            total.loss = float("nan")
        return real(self, total)

    monkeypatch.setattr(Trial, "finish", finish)
    options = replace(OPTIONS, methods=("prefix",), shots=0, seeds=3)
    data = labelled(tmp_path / "rows.csv", 60, 5)
    result = compare(request(data, base, tmp_path / "out", settings={"side_by_side": "on"}), options)
    assert result.systems["prefix"]["seeds"] == 2
    assert any("prefix, seed 14: no learning rate worked" in warning for warning in result.warnings)


LONG: dict[str, Any] = {"settings": {"num_train_epochs": 12.0, "save_steps": 1, "early_stopping_patience": 0}}
SHORT = replace(OPTIONS, seeds=1, shots=0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, base: str) -> tuple[str, dict[str, Any]]:
    """Data, and what a comparison in one process finds."""
    folder = tmp_path_factory.mktemp("alone")
    data = labelled(folder / "rows.csv", 60, 5)
    compare(request(data, base, folder / "out", **LONG), SHORT)
    return data, facts(folder / "out")


@pytest.mark.parametrize("ray", [None, "local"])
def test_workers_come_to_the_same_report_also_when_one_is_killed(
    tmp_path: Path, base: str, alone: tuple[str, dict[str, Any]], ray: str | None
) -> None:
    if ray:
        pytest.importorskip("ray")
    data, wanted = alone
    folder = tmp_path / "shared"
    killed: list[int] = []
    units = [folder / "systems" / name / "seed-13" for name in ("prefix", "prompt_tuning")]
    watcher = threading.Thread(target=kill_one, args=(units, killed))
    watcher.start()
    told: list[tuple[str, int, int]] = []

    def progress(name: str, done: int, total: int, **fields: object) -> None:
        told.append((name, done, total))

    compare(request(data, base, folder, progress=progress, **LONG), SHORT, workers=Workers(2, ray))
    watcher.join()
    assert killed
    assert ("train by runs", 2, 2) in told
    assert not list(folder.rglob(STATE))
    assert facts(folder) == wanted


def test_what_time_does_not_hold_is_left_out_and_told(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "_fits", lambda self, plan, number: False)
    data = labelled(tmp_path / "rows.csv", 60, 5)
    options = replace(OPTIONS, methods=("prefix",), shots=0, seeds=3)
    result = compare(request(data, base, tmp_path / "out"), options)
    assert result.systems["prefix"]["seeds"] == 1
    assert any(warning.startswith("2 of 3 seeds were left out") for warning in result.warnings)
    assert "one training each" in result.verdict[0]


def test_data_in_memory_is_refused_for_workers(tmp_path: Path, base: str) -> None:
    asked = replace(request("", base, tmp_path / "out"), data=[{"text": "a", "label": "b"}])
    with pytest.raises(SettingsError, match="memory"):
        compare(asked, OPTIONS, workers=Workers(2))


def test_another_comparison_in_the_folder_is_refused(made: tuple[CompareResult, Path, str], base: str) -> None:
    _, folder, data = made
    with pytest.raises(SettingsError, match="holds a run already"):
        compare(request(data, base, folder), OPTIONS)
    with pytest.raises(ResumeError, match="compare"):
        compare(request(data, base, folder, resume=True), OPTIONS)
    with pytest.raises(ResumeError):
        resume_comparison(folder / "systems")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"methods": ("prefx",)}, "did you mean prefix"),
        ({"methods": ("text",)}, "is not trained"),
        ({"require": "prefix > lora + 2"}, "has no system 'lora'"),
        ({"require": "prefix better than prompt"}, "not a requirement"),
        ({"budget": "0.01s"}, "does not fit the budget"),
        ({"pool": "nowhere.csv"}, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    options: dict[str, Any], told: str, tmp_path: Path, base: str
) -> None:
    data = labelled(tmp_path / "rows.csv", 60)
    with pytest.raises(Exception, match=told) as caught:
        compare(request(data, base, tmp_path / "out"), replace(OPTIONS, **options))
    assert caught.value.exit_code in (2, 3)  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("setting", "value"), [("processes", 2), ("shard", True), ("ablate", True)])
def test_settings_that_do_nothing_here_are_refused(setting: str, value: Any, tmp_path: Path) -> None:
    asked = request("nowhere.csv", "nowhere", tmp_path / "out", settings={setting: value})
    with pytest.raises(SettingsError) as caught:
        compare(asked, OPTIONS)
    assert caught.value.where == setting


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_taggers_are_compared_by_spans(tmp_path: Path, family: str) -> None:
    folder = save_tiny(tmp_path / "base", family)
    asked = replace(request("", str(folder), tmp_path / "out"), data=tagged(90, 1), skip_bad=True)
    settings = {"per_device_train_batch_size": 8, "num_train_epochs": 4.0, "learning_rate": 5e-2}
    asked = replace(asked, task_options=TaskOptions(), settings=replace(asked.settings, **settings))  # type: ignore[arg-type]
    result = compare(asked, replace(OPTIONS, methods=("prefix",), seeds=1))
    assert result.metric == "span_f1"
    assert list(result.systems) == ["one_tag", "word_tags", "prefix"]
    assert result.systems["one_tag"]["metrics"]["span_f1"]["value"] == 0
    # A y is of a span behind an x only, which the word alone does not say.
    assert 0 < result.systems["word_tags"]["metrics"]["span_f1"]["value"] < 0.95
    assert {(one["a"], one["b"]) for one in result.comparisons["worth"]} == {("prefix", "word_tags")}
    assert any("the tag that each word had most often" in line for line in result.verdict)
    assert "one training each" in result.verdict[0]
    assert "Comparisons" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_generation_is_compared_by_bleu(tmp_path: Path, base: str) -> None:
    dice = random.Random(1)
    words = ["".join(dice.choice("abcdefghijklmnop") for _ in range(7)) for _ in range(40)]
    data = tmp_path / "pairs.csv"
    pd.DataFrame({"prompt": words, "completion": [" ".join(word[:4]) for word in words]}).to_csv(data, index=False)
    task = TaskOptions(guidance="Begin.\n", template="{{ prompt }}:", max_new_tokens=4)
    asked = replace(request(str(data), base, tmp_path / "out"), task_options=task)
    result = compare(asked, replace(OPTIONS, methods=("prefix",), shots=2))
    assert list(result.systems) == ["nearest", "prompt", "best_prompt", "few_shot", "prefix"]
    assert result.metric == "bleu"
    assert result.power["detectable"] is None
    assert result.costs["prefix"]["price"] is None


def test_an_encoder_with_a_head_is_compared_with_the_baselines(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "bert", "bert")
    data = labelled(tmp_path / "rows.csv", 60)
    asked = request(data, str(folder), tmp_path / "out")
    asked = replace(asked, task_options=TaskOptions(head=True, template="{{ text }}"))
    result = compare(asked, replace(OPTIONS, methods=("prefix",), seeds=1))
    assert list(result.systems) == ["majority", "tfidf", "prefix"]
    assert result.comparisons["worth"][0]["b"] == "tfidf"
