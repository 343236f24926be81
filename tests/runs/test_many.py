"""Many runs at once, in processes and on a Ray cluster of two workers: the runs of one process, also when one dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.errors import ForewordError, SettingsError
from foreword.runs.workers.pool import Workers, do_all, run_all
from foreword.runs.workers.worker import STATE
from foreword.settings.schema import TrainRequest
from tests.runs.conftest import kill_one

Requests = Callable[..., TrainRequest]


def digest(folder: Path) -> str:
    return load(folder / "model.foreword")[0].digest()


@pytest.mark.parametrize("ray", [None, "local"])
def test_a_killed_worker_costs_nothing_but_time(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str, ray: str | None
) -> None:
    if ray:
        pytest.importorskip("ray")
    settings = {"num_train_epochs": 25.0, "save_steps": 1, "num_threads": 1, "early_stopping_patience": 0}

    def wanted(name: str, seed: int) -> TrainRequest:
        return request_of(labelled, base("llama"), tmp_path / name, settings={**settings, "seed": seed})

    requests = [wanted("a", 1), wanted("b", 2)]
    folders = [Path(one.output_dir) for one in requests]
    killed: list[int] = []
    watcher = threading.Thread(target=kill_one, args=(folders, killed))
    watcher.start()
    told: list[tuple[int, int]] = []
    run_all(requests, Workers(2, ray), lambda name, done, total, **fields: told.append((done, total)))
    watcher.join()
    assert killed
    assert told[-1] == (2, 2)
    assert not list(tmp_path.rglob(STATE))
    alone = wanted("alone", 1)
    api.train(alone)
    assert digest(tmp_path / "a") == digest(tmp_path / "alone")
    log_a, log_b, log = ((tmp_path / name / "trainer_log.jsonl").read_text() for name in ("a", "b", "alone"))
    assert log_a == log != log_b


def test_what_fails_is_named_and_the_others_are_finished(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str
) -> None:
    good = request_of(labelled, base("llama"), tmp_path / "good")
    bad = replace(request_of(labelled, base("llama"), tmp_path / "bad"), data=str(tmp_path / "nothing.csv"))
    with pytest.raises(ForewordError, match="1 of 2 runs failed") as caught:
        run_all([bad, good], Workers(2))
    assert "bad" in str(caught.value)
    assert "nothing.csv" in str(caught.value) or "found" in str(caught.value)
    assert (tmp_path / "good" / "model.foreword").exists()


def test_what_workers_cannot_do_is_refused(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str, monkeypatch: Any
) -> None:
    one = request_of(labelled, base("llama"), tmp_path / "one")
    with pytest.raises(SettingsError, match="memory"):
        run_all([replace(one, data=[{"text": "a", "label": "b"}])], Workers(2))
    with pytest.raises(SettingsError, match="same folder"):
        run_all([one, one], Workers(2))
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(SettingsError, match=r"foreword\[ray\]"):
        run_all([one], Workers(2, "local"))
    assert not (tmp_path / "one").exists()


SLOW = """
import json, signal, sys, time
task = json.load(sys.stdin)
def end(*_):
    open(task["folder"] + "/told", "w").close()
    sys.exit(1)
signal.signal(signal.SIGINT, end)
open(task["folder"] + "/begun", "w").close()
time.sleep(60)
"""


def test_ctrl_c_ends_the_workers_and_begins_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()

    def progress(*_: object, **__: object) -> None:
        if (folders[0] / "begun").exists():
            raise KeyboardInterrupt

    def perform(task: object) -> dict[str, Any]:
        raise AssertionError("carried out by its module, in another process")

    perform.__module__ = "slow"
    with pytest.raises(KeyboardInterrupt):
        do_all([{"folder": str(folder)} for folder in folders], Workers(1), progress, folders, perform)
    assert [(folder / "told").exists() for folder in folders] == [True, False, False]
    assert not (folders[1] / "begun").exists()


def test_workers_predict_what_one_process_predicts(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str
) -> None:
    api.train(request_of(labelled, base("llama"), tmp_path / "run"))
    file, alone, shared = tmp_path / "run" / "model.foreword", tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    api.predict(file, labelled, output=alone)
    assert main(["predict", str(file), labelled, "--output", str(shared), "--workers", "2", "--json"]) == 0
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in (alone, shared)]
    assert [(one["id"], one["output"]) for one in lines[0]] == [(one["id"], one["output"]) for one in lines[1]]
    assert not list(tmp_path.glob(".parts-*"))
    assert main(["predict", str(file), labelled, "--workers", "2"]) == 2
    tables = tmp_path / "alone.csv", tmp_path / "shared.csv"
    api.predict(file, labelled, output=tables[0])
    assert main(["predict", str(file), labelled, "--output", str(tables[1]), "--workers", "2"]) == 0
    first, second = ([line.split(",")[:3] for line in path.read_text().splitlines()] for path in tables)
    assert first == second


def test_a_sweep_by_workers(base: Callable[[str], str], tmp_path: Path, labelled: str) -> None:
    command = ["sweep", labelled, "--base", base("llama"), "--input-prefix", "3", "--output-dir", str(tmp_path / "s")]
    more = ["--learning-rate", "0.05", "--num-train-epochs", "1", "--workers", "2"]
    assert main([*command, *more]) == 0
    assert (tmp_path / "s" / "k-3" / "model.foreword").exists()
    assert (tmp_path / "s" / "report.html").exists()
