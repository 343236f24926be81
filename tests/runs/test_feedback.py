"""Corrected rows: a new version of a run's data, nothing lost, nothing counted twice, no test row learned from."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.cli.main import main
from foreword.data.task.task import Task
from foreword.errors import DataError, ResumeError
from foreword.evaluation.predictions import read_jsonl
from foreword.settings.schema import TrainRequest
from foreword.studies.feedback.corrections import unrendered

Requests = Callable[..., TrainRequest]


@pytest.fixture
def trained(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> Path:
    api.train(request_of(labelled, base("llama"), tmp_path / "run", settings={"max_steps": 2}))
    return tmp_path / "run"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def versions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "feedback" / "versions.json").read_text())["versions"]
    return found


def corrected_log(folder: Path, tmp_path: Path) -> Path:
    """The run's own predictions with two test answers corrected, as somebody would edit the log."""
    logged = [one.to_json() for one in read_jsonl(folder / "predictions" / "foreword.jsonl")]
    for record in logged[:2]:
        record["gold"] = "no" if record["gold"] == "yes" else "yes"
    for record in logged[2:]:
        record["gold"] = ""
    return write(tmp_path / "log.jsonl", logged)


def test_new_rows_go_to_train_once(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"text": "qqzqqqqq", "label": "no"},
        {"text": "rrrxrrrr", "label": "yes"},
        {"text": "qqzqqqqq", "label": "no"},
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    found = api.feedback(trained, file)
    assert (found.version, found.added, sum(found.amended.values())) == (2, 2, 0)
    assert set(found.systems) == {"corrected", "test"}
    assert found.systems["corrected"]["rows"] == 2
    first, second = versions(trained)
    assert first["data"] == json.loads((trained / "run.json").read_text())["data"]
    assert second["parent"] == 1
    assert len(second["added"]) == 2
    before, after = first["data"]["train"]["ids"], second["data"]["train"]["ids"]
    assert after[: len(before)] == before
    again = api.feedback(trained, file)
    assert (again.version, again.added, again.known) == (2, 0, 2)
    assert len(versions(trained)) == 2
    assert main(["feedback", str(trained), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2
    assert "data version 2" in found.render()


def test_a_test_row_is_amended_and_never_learned_from(trained: Path, tmp_path: Path) -> None:
    found = api.feedback(trained, corrected_log(trained, tmp_path))
    assert (found.added, found.amended["test"], found.without > 0) == (0, 2, True)
    assert set(found.systems) == {"corrected", "test", "test amended"}
    old = found.systems["test"]["metrics"]["accuracy"]["value"]
    assert old == pytest.approx(api.show(trained / "model.foreword")["metrics"]["accuracy"]["value"])
    first, second = versions(trained)
    assert first["data"]["train"] == second["data"]["train"] | {"name": first["data"]["train"]["name"]}
    assert first["data"]["test"]["ids"] != second["data"]["test"]["ids"]
    train = {row["text"] for row in lines(trained / "feedback" / "v2" / "train.jsonl")}
    assert not train & {row["text"] for row in lines(trained / "feedback" / "v2" / "corrections.jsonl")}
    # A second thought is a third version; the second stays as it was.
    kept = (trained / "feedback" / "v2" / "test.jsonl").read_bytes()
    back = [{**row, "label": "no" if row["label"] == "yes" else "yes"}
            for row in lines(trained / "feedback" / "v2" / "corrections.jsonl")[:1]]  # fmt: skip
    third = api.feedback(trained, write(tmp_path / "back.jsonl", back))
    assert (third.version, third.amended["test"], third.systems["corrected"]["rows"]) == (3, 1, 2)
    assert (trained / "feedback" / "v2" / "test.jsonl").read_bytes() == kept


def test_the_command_that_is_shown_learns_from_the_new_version(
    trained: Path, tmp_path: Path, labelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = api.feedback(trained, write(tmp_path / "rows.jsonl", [{"text": "qqzqqqqq", "label": "no"}]))
    monkeypatch.chdir(tmp_path)
    command = found.retrain.split()
    assert command[:2] == ["foreword", "train"]
    assert main([*command[1:], "--set", "max_steps=1"]) == 0
    data = json.loads((tmp_path / "RUN" / "run.json").read_text())["data"]
    assert {name: one["ids"] for name, one in data.items()} == {
        name: one["ids"] for name, one in versions(trained)[1]["data"].items()
    }


def test_a_killed_write_leaves_the_version_before(trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    file = write(tmp_path / "rows.jsonl", [{"text": "qqzqqqqq", "label": "no"}])

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["foreword.studies.feedback.feedback"], "_line", killed)
        with pytest.raises(KeyboardInterrupt):
            api.feedback(trained, file)
    assert not (trained / "feedback" / "versions.json").exists()
    assert api.feedback(trained, file).version == 2


def test_two_at_once_take_turns(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feedback = sys.modules["foreword.studies.feedback.feedback"]
    merged, waiting, inside = feedback._merged, threading.Event(), []

    def slowly(*given: Any) -> Any:
        inside.append(threading.current_thread().name)
        if len(inside) == 1:  # the other one comes while the first has read, and has not written
            waiting.set()
            threading.Event().wait(0.3)
            assert len(inside) == 1
        return merged(*given)

    monkeypatch.setattr(feedback, "_merged", slowly)
    files = [
        write(tmp_path / f"{word}.jsonl", [{"text": word, "label": "no"}, {"text": "ssxsssss", "label": "yes"}])
        for word in ("qqzqqqqq", "rrzrrrrr")
    ]
    found: list[Any] = []

    def add(file: Path) -> None:
        found.append(api.feedback(trained, file))

    threads = [threading.Thread(target=add, args=[file]) for file in files]
    threads[0].start()
    assert waiting.wait(30)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert sorted((one.version, one.added, one.known) for one in found) == [(2, 2, 0), (3, 1, 1)]
    assert [one["version"] for one in versions(trained)] == [1, 2, 3]
    learned = {row["text"] for row in lines(trained / "feedback" / "v3" / "train.jsonl")}
    assert {"qqzqqqqq", "rrzrrrrr", "ssxsssss"} <= learned


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"text": "abc", "label": "maybe"}, {"text": "", "label": "no"}], r"(?s)2 corrected rows.*jsonl:1.*jsonl:2"),
        ([{"text": "abc", "label": "no"}, {"text": "abc", "label": "yes"}], "2 corrected rows"),
        ([{"id": "x", "input": "abc:", "gold": "maybe"}], "the label 'maybe'"),
        ([{"id": "x", "input": "", "gold": "no"}], "cannot be told from the prediction"),
        ([{"id": "x", "input": "abc:", "gold": ""}], "no corrected row"),
        ([{"id": "x", "input": "abc:", "gold": "no"}, {"id": "y"}], "jsonl:2: not a prediction"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_together(
    trained: Path, tmp_path: Path, rows: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        api.feedback(trained, write(tmp_path / "rows.jsonl", rows))
    assert not (trained / "feedback").exists()


def test_a_log_of_rows_that_the_run_never_saw(trained: Path, tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = [
        {"id": "live-1", "input": "ttxttttt:", "output": "no", "gold": "yes"},
        {"id": "live-2", "input": {"text": "uuzuuuuu"}, "output": "yes", "gold": "no"},
    ]
    found = api.feedback(trained, write(tmp_path / "log.jsonl", shown))
    assert found.added == 2
    texts = [row["text"] for row in lines(trained / "feedback" / "v2" / "train.jsonl")[-2:]]
    assert texts == ["ttxttttt", "uuzuuuuu"]


def test_runs_without_data_on_disk(
    trained: Path, tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests,
    rows_of: Callable[[str, int], list[dict[str, str]]],
) -> None:  # fmt: skip
    file = write(tmp_path / "rows.jsonl", [{"text": "qqzqqqqq", "label": "no"}])
    api.train(request_of(rows_of("words", 60), base("llama"), tmp_path / "memory", settings={"max_steps": 1}))
    with pytest.raises(ResumeError, match="in memory"):
        api.feedback(tmp_path / "memory", file)
    content = Path(labelled).read_text().splitlines()
    Path(labelled).write_text("\n".join(content[:30]) + "\n")
    with pytest.raises(DataError, match="data have changed"):
        api.feedback(trained, file)


def test_the_field_behind_a_text() -> None:
    task = Task("generation", "Q: {{ q }}\nA:", "Be brief.", "a")
    assert unrendered("Q: what is it?\nA:", task) == {"q": "what is it?"}
    assert unrendered("what is it?", task) is None
    assert unrendered("x", Task("generation", "{{ a }} {{ b }}", "", "c")) is None
