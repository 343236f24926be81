"""Whole searches on tiny models: what is written, that it resumes, that training starts from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.cli.main import main
from foreword.core.base.load import load_base
from foreword.errors import Interrupted, ResumeError, SettingsError
from foreword.evaluation.predictions import read_jsonl
from foreword.settings.schema import TrainRequest
from foreword.studies.search.search import resume_search, search
from foreword.studies.search.settings import SearchSettings

Requests = Callable[..., TrainRequest]
Folders = Callable[[str], str]
SMALL = SearchSettings(rounds=2, width=7, rows=40)


def test_a_search_and_what_it_writes(tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests) -> None:
    found = search(request_of(labelled, tiny_folder("llama"), tmp_path / "s"), SMALL)
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["verdict"] == found.verdict
    assert report["prompts"][0]["name"] in found.systems
    assert {one["origin"] for one in found.prompts} >= {"user", "rules", "edit", "swap", "shots", "calibrate"}
    rounds = [json.loads(line) for line in (tmp_path / "s" / "rounds.jsonl").read_text().splitlines()]
    assert [one["number"] for one in rounds] == [0, 1, 2]
    assert all(one["metric_after"] >= one["metric_before"] for one in rounds)
    # Every figure has its rows, and no row both chooses and judges.
    name = report["prompts"][0]["name"]
    chose = {row.id for row in read_jsonl(tmp_path / "s" / "predictions" / "search" / f"{name}.jsonl")}
    judged = {row.id for row in read_jsonl(tmp_path / "s" / "predictions" / "held" / "your-prompt.jsonl")}
    assert len(chose) == found.rows["search"]
    assert len(judged) == found.rows["held"] == found.systems["your prompt"]["rows"]
    assert not chose & judged
    divided = [len(set(row["outputs"].values())) for row in report["matrix"]]
    assert divided == sorted(divided, reverse=True)
    assert len(divided) == len(chose)
    best, played = report["tables"][0], report["tables"][1]
    assert best["lines"][0] == ["guidance", next(p for p in report["prompts"] if p["name"] == name)["text"].strip()]
    assert [line[:3] for line in played["lines"]] == [[one["number"], one["change"], one["after"]] for one in rounds]
    assert len(played["chart"]["points"]) == 3
    for form in ("report.html", "report.md", "report.zh-CN.md", "guidance.txt"):
        assert (tmp_path / "s" / form).stat().st_size


def test_training_starts_from_the_prompt_that_was_found(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    settings = SearchSettings(rounds=1, width=8, rows=40, operators=("edit", "shots"))
    found = search(request_of(labelled, tiny_folder("llama"), tmp_path / "s"), settings)
    assert found.winner["origin"] in ("edit", "shots", "user")
    flags = ["--config", str(tmp_path / "s" / "settings.yaml"), "--output-dir", str(tmp_path / "run")]
    assert main(["train", *flags, "--learning-rate", "0.02", "--set", "max_steps=1"]) == 0
    manifest = api.show(tmp_path / "run" / "model.foreword")
    guidance = (tmp_path / "s" / "guidance.txt").read_text()
    assert manifest["task"]["guidance"] == guidance
    assert manifest["num_virtual_tokens"] in (0, len(guidance.encode()))  # a byte is a token here
    settings_of = json.loads((tmp_path / "run" / "run.json").read_text())["request"]["task"]
    assert settings_of["labels"] == found.chosen["labels"]


def test_a_stopped_search_goes_on_as_if_it_had_not_been(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests
) -> None:
    base = tiny_folder("llama")
    whole = search(request_of(labelled, base, tmp_path / "whole"), SMALL)

    def stop(name: str, done: int, total: int, **fields: object) -> None:
        if name.startswith("ask edit-2."):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="every answer so far"):
        search(request_of(labelled, base, tmp_path / "cut", progress=stop), SMALL)
    asked: list[str] = []
    again = resume_search(tmp_path / "cut", lambda name, done, total, **fields: asked.append(name))
    assert again.winner == whole.winner
    assert again.gain == whole.gain
    assert again.prompts == whole.prompts
    assert not any(name.startswith("ask rules-1.") for name in asked)  # round 1 was kept
    assert again.evaluations == whole.evaluations
    with pytest.raises(ResumeError, match="not the run that was started"):
        other = request_of(labelled, base, tmp_path / "cut", resume=True, task={"guidance": "Other."})
        search(other, SMALL)
    with pytest.raises(SettingsError, match="holds a run already"):
        search(request_of(labelled, base, tmp_path / "cut"), SMALL)


def test_a_budget_of_answers_is_kept(tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests) -> None:
    settings = SearchSettings(rounds=3, width=7, rows=40, evaluations=100)
    found = search(request_of(labelled, tiny_folder("llama"), tmp_path / "s"), settings)
    assert found.ended == "the budget was spent"
    assert found.evaluations <= 100 + 2 * found.rows["held"]
    assert found.prompts[0]["whole"]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("prompts.txt", "Yes or no?\\n\n\nSay no or yes.\\n\n", ["Yes or no?\n", "Say no or yes.\n"]),
        (
            "prompts.jsonl",
            '{"guidance": "Yes or no?"}\n{"labels": {"no": "bad", "yes": "good"}, "calibrate": true}\n',
            ["Yes or no?", "Say yes or no, please. Choose one: no, yes.\n"],
        ),
        (
            "prompts.yaml",
            'variants:\n- "Yes or no?"\n- {guidance: Which?, template: "{{ text }} is"}\n',
            ["Yes or no?", "Which?"],
        ),
    ],
)
def test_variants_from_a_file_are_all_asked_on_every_row(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests, name: str, content: str, texts: list[str]
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    settings = SearchSettings(variants=str(tmp_path / name), rows=40)
    found = search(request_of(labelled, tiny_folder("llama"), tmp_path / "s"), settings)
    made = sorted((one for one in found.prompts if one["origin"] == "file"), key=lambda one: one["name"])
    assert sorted(one["guidance"] for one in made) == sorted(texts)
    assert all(one["whole"] and one["rows"] == found.rows["search"] for one in found.prompts)
    assert len(found.rounds) == 1


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.txt", "\n\n", "there are no variants"),
        ("v.jsonl", '{"guidance": "a"}\n{"guidence": "b"}\n', r"v.jsonl:2: unknown key 'guidence'"),
        ("v.jsonl", "{\n", "v.jsonl:1: not JSON"),
        ("v.jsonl", '{"labels": {"no": "n"}}\n', "v.jsonl:1: a variant names other labels"),
        ("v.jsonl", '{"template": "{{ txt }}"}\n', r"v.jsonl:1: the template names a field .* 'txt'"),
        ("v.jsonl", '{"calibrate": "yes"}\n', "calibrate is not a bool"),
        ("v.jsonl", '{"name": "a", "guidance": "x"}\n{"name": "a", "guidance": "y"}\n', "the same name"),
        ("v.yaml", "prompts: [a]\n", "a list under the key"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_bad_variants_are_refused_with_their_place(
    tmp_path: Path, labelled: str, tiny_folder: Folders, request_of: Requests, name: str, content: str, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=problem):
        search(
            request_of(labelled, tiny_folder("llama"), tmp_path / "s"),
            SearchSettings(variants=str(tmp_path / name), rows=40),
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("family", ["llama", "t5", "chat"])
def test_other_tasks_and_bases(
    tmp_path: Path, paired: str, labelled: str, tiny_folder: Folders, request_of: Requests, family: str
) -> None:
    task: dict[str, Any] = {"guidance": "Begin now, please.\n", "template": "{{ prompt }}:", "max_new_tokens": 4}
    if family == "chat":
        task = {"chat": True, "guidance": "Say yes or no, please."}
    data = labelled if family == "chat" else paired
    made = request_of(data, tiny_folder(family), tmp_path / "s", task=task)
    found = search(made, SearchSettings(rounds=1, width=6, rows=20))
    assert len(found.prompts) > 4
    assert found.prompts[0]["whole"]
    assert "swap" in {one["origin"] for one in found.prompts} or family == "t5"


def test_the_command(
    tmp_path: Path, labelled: str, tiny_folder: Folders, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--base", tiny_folder("llama"), "--output-dir", "s", "--rows", "20", "--rounds", "1", "--width", "3"]
    assert main(["search", labelled, *flags, "--operator", "rules", "--operator", "edit", "--budget", "5min"]) == 0
    out = capsys.readouterr().out
    assert "train from it: foreword train --config s/settings.yaml" in out
    assert main(["search", labelled, *flags]) == 2
    assert main(["search", "--resume", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rounds"][1]["number"] == 1
    assert main(["search", labelled, *flags, "--budget", "soon", "--overwrite"]) == 2
    assert main(["search", "--resume", "s", "--rounds", "2"]) == 2


def test_a_base_in_memory_and_a_metric_without_intervals(
    tmp_path: Path, paired: str, tiny_folder: Folders, request_of: Requests
) -> None:
    base = load_base(tiny_folder("llama"))
    task = {"template": "{{ prompt }}:", "max_new_tokens": 2, "metric": "distinct_1"}
    with pytest.raises(SettingsError, match="no interval"):
        search(request_of(paired, base, tmp_path / "s", task=task), SMALL)
