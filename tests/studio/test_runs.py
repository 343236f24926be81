"""Runs: processes that outlive the studio, their events, their report, the bin."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from foreword.errors import SettingsError
from foreword.studio import processes
from foreword.studio.run_feed import LOG, events, read_points
from foreword.studio.run_folders import RunFolder
from tests.studio.conftest import Browser


def told(run: RunFolder, last_id: str = "") -> list[tuple[str, str, object]]:
    """(id, kind, data) of every event."""

    async def collected() -> list[str]:
        return [text async for text in events(run, last_id)]

    found = []
    for text in asyncio.run(collected()):
        fields = dict(line.split(": ", 1) for line in text.strip().splitlines())
        found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


def test_a_finished_run_shows_its_report_and_its_events(browser: Browser, run: Path) -> None:
    text = browser.get("/runs/first").text
    assert 'class="answer"' in text
    assert "model.foreword" in text
    assert "Finished" in text
    stream = browser.get("/runs/first/events").text
    assert "event: points" in stream
    assert "event: end" in stream
    assert '"eta": "4s"' in stream
    assert "Nothing" not in browser.get("/runs/first", headers={"Accept-Language": "zh"}).text


def test_events_go_on_where_a_browser_left_off(run: Path) -> None:
    first = told(RunFolder("first", run))
    assert [kind for _, kind, _ in first] == ["points", "status", "end"]
    ident = first[0][0]
    assert [kind for _, kind, _ in told(RunFolder("first", run), ident)] == ["status", "end"]
    with (run / "run" / LOG).open("a") as log:
        log.write('{"trial": 1, "step": 99, "loss": 1.0}\n{"trial": 1, "st')
    later = told(RunFolder("first", run), ident)
    assert later[0][1:] == ("points", [{"trial": 1, "step": 99, "loss": 1.0}])


def test_a_log_that_was_mended_is_told_again_from_its_beginning(run: Path) -> None:
    folder = RunFolder("first", run)
    _, seen = read_points(folder, "")
    path = run / "run" / LOG
    lines = path.read_text().splitlines(keepends=True)
    path.rename(run / "old")
    path.write_text("".join(lines[:3]))
    assert [kind for _, kind, _ in told(folder, seen)] == ["reset", "points", "status", "end"]
    assert len(read_points(folder, "nonsense")[0]) == 3


def test_a_process_is_seen_to_run_by_anybody_until_it_ends(tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text("import sys, time; print('{\"a\": 1}', flush=True); time.sleep(60)")
    folder = tmp_path / "job"
    folder.mkdir()
    processes.start(folder, "runpy", [], command="train")
    _wait(lambda: not processes.runs(folder))
    processes.start(folder, "timeit", ["-n", "1", "-r", "1", f"exec(open({str(script)!r}).read())"], command="train")
    assert processes.runs(folder)
    with pytest.raises(SettingsError, match="runs already"):
        processes.start(folder, "timeit", [])
    _wait(lambda: processes.output(folder) == {"a": 1})
    processes.stop(folder)
    _wait(lambda: not processes.runs(folder))
    assert processes.record(folder)["command"] == "train"
    assert sys.executable


def _wait(condition: object) -> None:
    for _ in range(400):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_how_a_run_ended_is_told_from_its_folder(run: Path) -> None:
    def state(output: object) -> tuple[str, object]:
        (run / "output").write_text(json.dumps(output) if output else "")
        return RunFolder("first", run).state, RunFolder("first", run).error.get("problem")

    assert state({"state": "measured"}) == ("finished", None)
    assert state({"error": "Interrupted", "problem": "x", "exit_code": 130}) == ("stopped", "x")
    assert state({"error": "DataError", "problem": "bad rows", "exit_code": 3}) == ("failed", "bad rows")
    assert state(None) == ("stopped", None)


def test_why_a_run_failed_is_shown_without_the_machines_folders(browser: Browser, run: Path) -> None:
    where = f"{run}/rows.csv:3"
    (run / "output").write_text(json.dumps({"error": "DataError", "problem": "bad", "where": where, "exit_code": 3}))
    text = browser.get("/runs/first").text
    assert "rows.csv:3" in text
    assert str(run) not in text


def test_runs_are_listed_compared_noted_deleted_and_brought_back(browser: Browser, run: Path) -> None:
    browser.post("/runs/first/notes", {"tags": "<i>best</i>", "note": "why"})
    text = browser.get("/runs").text
    assert "&lt;i&gt;best&lt;/i&gt;" in text
    assert "tiny-llama" in text
    assert "None." in browser.get("/runs?a=first&b=first").text
    browser.post("/runs/first/delete")
    assert not run.exists()
    name = next(path.name for path in run.parent.parent.joinpath("bin").iterdir())
    browser.post(f"/bin/{name}/restore")
    assert (run / "run" / "model.foreword").exists()
    browser.post("/runs/first/delete")
    browser.post("/bin/empty")
    assert not any(run.parent.parent.joinpath("bin").iterdir())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_train_epochs": "many"}, "this is no number"),
        ({"num_train_epochs": "-1"}, "num_train_epochs"),
        ({"method": "magic"}, "there is no such method"),
        ({"data": "nothing"}, "there is no"),
        ({"data": ""}, "no data were chosen"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_starts(
    browser: Browser, workspace: Path, fields: dict[str, str], problem: str
) -> None:
    rows = "text,label\n" + "".join(f"number {i},{'ab'[i % 2]}\n" for i in range(20))
    name = browser.upload("rows.csv", rows)
    answer = browser.post("/runs", {"data": name, "base": "tiny-llama", **fields})
    assert answer.status_code in (404, 422)
    assert problem in answer.text
    assert not any((workspace / "runs").iterdir())
