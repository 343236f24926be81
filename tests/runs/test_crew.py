"""One run in several processes: the run of a single one, also after a kill, and an error where one of them fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword import api
from foreword.artifact.store import load
from foreword.errors import ForewordError, SettingsError
from foreword.runs.workers import launch as room
from foreword.settings.schema import TrainRequest
from foreword.training import distributed

Requests = Callable[..., TrainRequest]
# Batches of 5 rows for two processes: shares of unlike size.
TWO = {"processes": 2, "per_device_train_batch_size": 5, "num_threads": 1}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, two: Path, tolerance: float) -> None:
    values = [load(folder / "model.foreword")[0].tensors() for folder in (one, two)]
    assert values[0].keys() == values[1].keys()
    for name, tensor in values[0].items():
        torch.testing.assert_close(values[1][name], tensor, rtol=0, atol=tolerance)
    for a, b in zip(log(one), log(two), strict=True):
        assert a == pytest.approx(b, abs=max(tolerance, 1e-12) * 10)


@pytest.mark.parametrize("task", ["words", "pairs"])
def test_two_processes_make_the_run_of_one(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str, paired: str, task: str
) -> None:
    more: dict[str, Any] = {}
    if task == "pairs":
        more["task"] = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}
    data = labelled if task == "words" else paired
    for count in (1, 2):
        api.train(request_of(data, base("llama"), tmp_path / str(count), settings={**TWO, "processes": count}, **more))
    assert distributed.size() == 1
    assert_same_run(tmp_path / "1", tmp_path / "2", 1e-4)
    predictions = [(tmp_path / n / "predictions" / "foreword.jsonl").read_text().splitlines() for n in ("1", "2")]
    assert [json.loads(line)["id"] for line in predictions[0]] == [json.loads(line)["id"] for line in predictions[1]]


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_base_spread_over_processes_makes_the_run_of_one(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str, family: str
) -> None:
    task = {"guidance": "Say yes or no.\n", "template": "{{ text }}:", "head": family == "bert"}
    for name, settings in (("whole", {"processes": 1}), ("spread", {"processes": 2, "shard": True})):
        asked = request_of(labelled, base(family), tmp_path / name, task=task, settings={**TWO, **settings})
        api.train(asked)
    assert_same_run(tmp_path / "whole", tmp_path / "spread", 1e-5)


def test_a_base_that_cannot_be_spread_is_refused(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str
) -> None:
    alone = request_of(labelled, base("llama"), tmp_path / "alone", settings={**TWO, "processes": 1, "shard": True})
    with pytest.raises(SettingsError, match="cannot be spread"):
        api.train(alone)
    with pytest.raises(SettingsError, match="changes the base itself"):
        api.train(replace(alone, method="full"))


def test_a_killed_crew_goes_on_to_the_same_end(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str
) -> None:
    """The whole job is killed in the middle; resumed, it ends bit-equal to the one that was not."""
    settings = {**TWO, "num_train_epochs": 6.0, "save_steps": 1}
    api.train(request_of(labelled, base("llama"), tmp_path / "whole", settings=settings))
    folder = tmp_path / "killed"
    wanted = request_of(labelled, base("llama"), folder, settings=settings).to_json()
    code = (
        "import json, sys; from foreword.api import train; from foreword.settings.layers import from_json;"
        "train(from_json(json.load(sys.stdin), 'test').request())"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert job.stdin is not None
    job.stdin.write(json.dumps(wanted))
    job.stdin.close()
    saved = folder / "trials"
    while not list(saved.rglob("*.safetensors")) and job.poll() is None:
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert not (folder / "model.foreword").exists()
    api.resume(folder)
    assert_same_run(tmp_path / "whole", folder, 0.0)


def test_a_process_that_fails_ends_the_run_with_its_reason(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; import foreword.runs.workers.rank_process; from foreword.errors import ResourceError\n"
        "def fail(*args): raise ResourceError('the second machine is on fire')\n"
        "sys.modules['foreword.runs.train.train']._search = fail; sys.exit(foreword.runs.workers.rank_process.main())"
    )
    monkeypatch.setattr(room, "_WORKER", [sys.executable, "-c", code])
    with pytest.raises(ForewordError, match=r"another process.*\n?.*on fire"):
        api.train(request_of(labelled, base("llama"), tmp_path / "run", settings=TWO))
    assert distributed.size() == 1
    assert not (tmp_path / "run" / "model.foreword").exists()


def test_what_is_in_memory_is_refused(
    base: Callable[[str], str], request_of: Requests, tmp_path: Path, labelled: str
) -> None:
    asked = request_of(labelled, base("llama"), tmp_path / "run", settings=TWO)
    with pytest.raises(SettingsError, match="memory"):
        api.train(replace(asked, data=[{"text": "a", "label": "b"}]))
    with pytest.raises(SettingsError, match="scratch"):
        api.train(replace(asked, base="lstm"))
    assert not (tmp_path / "run").exists()
