"""Contract 3 for whole runs: stopped anywhere, by a signal or a kill, and gone on with, they end bit-equal."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.core.base.precision import Precision
from foreword.errors import DataError, Interrupted, ResumeError, SettingsError
from foreword.messages import Message
from foreword.settings.schema import TrainRequest
from foreword.training.loop import Trial

Requests = Callable[..., TrainRequest]

SWEEP = {"learning_rate": None, "sweep": (1e-2, 5e-2, 1e-1), "eval_steps": 3, "save_steps": 2}
PAIRS = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}


class Killed(BaseException):
    """A kill: nothing is tidied up."""


def facts(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on how often it was stopped: the values, the report, predictions, the log."""
    value, manifest = load(folder / "model.foreword")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["created"], report["again"]
    for pace in ("seconds", "tokens_per_second", "share_of_floor"):
        report["training"].pop(pace, None)
    for speed in ("tokens_per_second", "share_of_floor"):
        report["training"].pop(speed, None)
    report["file"].pop("path")
    for figures in report["systems"].values():
        del figures["ms"]
    told = manifest.model_dump()
    del told["created"]
    predictions = {
        path.name: [{k: v for k, v in json.loads(line).items() if k != "ms"} for line in path.read_text().splitlines()]
        for path in (folder / "predictions").iterdir()
    }
    log = sorted((folder / "trainer_log.jsonl").read_text().splitlines())
    return {"digest": value.digest(), "report": report, "manifest": told, "predictions": predictions, "log": log}


def stop_after(patch: pytest.MonkeyPatch, steps: int, how: Callable[[], None]) -> None:
    """Call ``how`` when ``steps`` optimizer steps have been made, in all trials together."""
    real, count = Trial.begin, [0]

    def begin(self: Trial) -> Any:
        if count[0] == steps:
            how()
        count[0] += 1
        return real(self)

    patch.setattr(Trial, "begin", begin)


def kill() -> None:
    raise Killed


@pytest.fixture
def whole(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> dict[str, Any]:
    """A sweep that nobody stops: 3 rates, 12 steps."""
    api.train(request_of(labelled, base("llama"), tmp_path / "whole", settings=SWEEP))
    return facts(tmp_path / "whole")


def test_a_run_resumed_after_any_stop_is_bit_equal(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    """In the first rung, between evaluations, at the end of a rung, in the last rung, and after the last step."""
    for stop in (0, 1, 4, 9, 14, 20):
        folder = tmp_path / f"stopped{stop}"
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, stop, kill)
            with pytest.raises(Killed):
                api.train(request_of(labelled, base("llama"), folder, settings=SWEEP))
        assert not (folder / "model.foreword").exists()
        api.resume(folder)
        assert facts(folder) == whole, f"stopped after {stop} steps"


def test_stopped_several_times(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    folder = tmp_path / "often"
    asked = request_of(labelled, base("llama"), folder, settings=SWEEP)
    for stop, start in (
        (5, lambda: api.train(asked)),
        (4, lambda: api.resume(folder)),
        (6, lambda: api.resume(folder)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, stop, kill)
            with pytest.raises(Killed):
                start()
    api.resume(folder)
    assert facts(folder) == whole


def test_stopped_while_the_result_is_written(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    from foreword.runs.train import finish, outcome, run_report

    writers = ((outcome, "write_jsonl"), (finish, "save"), (run_report, "write_report"))
    for number, (module, name) in enumerate(writers):
        folder = tmp_path / f"late{number}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, lambda *args: kill())
            with pytest.raises(Killed):
                api.train(request_of(labelled, base("llama"), folder, settings=SWEEP))
        api.resume(folder)
        assert facts(folder) == whole


@pytest.mark.parametrize(
    ("family", "method"), [("t5", "prefix"), ("gpt2", "ptuning"), ("llama", "lora"), ("gpt2", "full")]
)
def test_generation_is_resumed_bit_equal(
    tmp_path: Path, paired: str, base: Callable[[str], str], request_of: Requests, family: str, method: str
) -> None:
    def asked(name: str) -> TrainRequest:
        return request_of(paired, base(family), tmp_path / name, task=PAIRS, method=method)

    api.train(asked("whole"))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4, kill)
        with pytest.raises(Killed):
            api.train(asked("stopped"))
    api.resume(tmp_path / "stopped")
    assert facts(tmp_path / "stopped") == facts(tmp_path / "whole")


def test_ctrl_c_saves_and_says_how_to_go_on(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    folder = tmp_path / "interrupted"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 7, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Interrupted) as caught:
            api.train(request_of(labelled, base("llama"), folder, settings=SWEEP))
    assert caught.value.exit_code == 130
    assert f"foreword train --resume {folder}" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is handler
    assert list((folder / "trials").rglob("checkpoint.safetensors"))
    made: list[int] = []
    api.resume(folder, lambda name, done, total, **fields: made.append(done) if name == "train" else None)
    assert made[0] >= 8  # nothing that was done is done again
    assert facts(folder) == whole


def test_ctrl_c_at_the_end_is_heard(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    """Not only the training steps can take long: the evaluations before and after them end at once too."""
    for name in ("measure the prompt", "test: foreword"):
        folder = tmp_path / name.replace(" ", "")

        def progress(told: str, done: int, total: int, name: str = name, **fields: object) -> None:
            if told == name:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(Interrupted):
            api.train(request_of(labelled, base("llama"), folder, settings=SWEEP, progress=progress))
        assert not (folder / "model.foreword").exists()
        api.resume(folder)
        assert facts(folder) == whole


def test_a_finished_run_can_be_resumed(
    whole: dict[str, Any], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    trained: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 0, lambda: trained.append(1))
        api.resume(tmp_path / "whole")
    assert trained == []
    assert facts(tmp_path / "whole") == whole


# --- what is refused


@pytest.fixture
def stopped(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> Path:
    folder = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(Killed):
            api.train(request_of(labelled, base("llama"), folder))
    return folder


def test_changed_data_are_refused(stopped: Path, labelled: str) -> None:
    lines = Path(labelled).read_text().splitlines(keepends=True)
    Path(labelled).write_text("".join([*lines[:-1], "zzzzzzzz,no\n"]))
    with pytest.raises(ResumeError, match="rows are gone and") as caught:
        api.resume(stopped)
    assert caught.value.exit_code == 1
    Path(labelled).write_text("".join(lines))
    api.resume(stopped)  # with the old data back it goes on


def test_missing_data_are_named(stopped: Path, labelled: str) -> None:
    Path(labelled).unlink()
    with pytest.raises(DataError, match="labelled"):
        api.resume(stopped)


def test_changed_settings_are_refused_by_name(
    stopped: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    def message(**changes: Any) -> str:
        with pytest.raises(ResumeError) as caught:
            api.train(request_of(labelled, base("llama"), stopped, resume=True, **changes))
        return str(caught.value)

    told = message(settings={"seed": 14})
    assert "training.seed: 13 before, 14 now" in told
    assert "num_train_epochs" not in told  # only what differs is named
    assert "method" in message(method="prompt")
    assert "method.num_virtual_tokens" in message(method_settings={"num_virtual_tokens": 4})
    assert "task.guidance" in message(task={"guidance": "Say.\n", "template": "{{ text }}:"})


def test_another_base_is_refused(
    stopped: Path, labelled: str, tmp_path: Path, request_of: Requests, base: Callable[[str], str]
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(ResumeError, match="base"):
        api.train(request_of(labelled, base("gpt2"), stopped, resume=True))
    record = json.loads((stopped / "run.json").read_text())
    moved = tmp_path / "moved"
    shutil.copytree(base("llama"), moved)
    tensors = load_file(moved / "model.safetensors")
    next(iter(tensors.values())).mul_(1.5)
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    record["request"]["base"] = str(moved)  # the same place, other weights
    (stopped / "run.json").write_text(json.dumps(record))
    with pytest.raises(ResumeError, match="base: another weights"):
        api.resume(stopped)


def test_no_run_there(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> None:
    with pytest.raises(ResumeError, match="no run to resume"):
        api.resume(tmp_path / "nothing")
    (tmp_path / "run.json").write_text("{half")
    with pytest.raises(ResumeError, match=r"run\.json"):
        api.resume(tmp_path)


def test_a_damaged_checkpoint_is_named(stopped: Path) -> None:
    folder = stopped / "trials" / "0.05"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(ResumeError, match="cannot be read"):
        api.resume(stopped)


def test_data_in_memory_are_given_again(
    tmp_path: Path,
    base: Callable[[str], str],
    request_of: Requests,
    rows_of: Callable[[str, int], list[dict[str, str]]],
) -> None:
    rows, folder = rows_of("words", 60), tmp_path / "memory"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 8, kill)
        with pytest.raises(Killed):
            api.train(request_of(rows, base("llama"), folder))
    with pytest.raises(ResumeError, match="in memory"):
        api.resume(folder)
    with pytest.raises(SettingsError, match="holds a run"):
        api.train(request_of(rows, base("llama"), folder))
    with pytest.raises(ResumeError, match="rows are gone"):
        api.train(request_of(rows[:-2], base("llama"), folder, resume=True))
    made = api.train(request_of(rows, base("llama"), folder, resume=True))
    whole = api.train(request_of(rows, base("llama"), tmp_path / "whole"))
    assert load(made.file)[0].digest() == load(whole.file)[0].digest()


# --- real processes


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "foreword", "train", *words, "--json"]


def started(*words: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command(*words), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], folder: Path, before: float) -> None:
    """Until the process has saved something new, or ended."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(path.stat().st_mtime > before for path in folder.rglob("checkpoint.safetensors")):
            return
        time.sleep(0.02)


def test_killed_processes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    """Killed twice at random moments, interrupted once, then gone on with: the file is that of the run in peace."""
    folder, dice = tmp_path / "killed", random.Random()
    task = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}
    # settings.yaml has the precision that was chosen, so it is said in both.
    settings: dict[str, Any] = {
        **SWEEP,
        "num_train_epochs": 20.0,
        "early_stopping_patience": 0,
        "save_steps": 3,
        "eval_steps": 12,
    }
    settings["dtype"] = "float32"
    api.train(request_of(labelled, base("llama"), tmp_path / "whole", task=task, settings=settings))
    config = tmp_path / "task.yaml"
    config.write_text((tmp_path / "whole" / "settings.yaml").read_text())
    first = ("--config", str(config), "--output-dir", str(folder))
    ends = []
    for words, number in (
        (first, signal.SIGKILL),
        (("--resume", str(folder)), signal.SIGKILL),
        (("--resume", str(folder)), signal.SIGINT),
    ):
        before = time.time()
        process = started(*words)
        wait_for(process, folder, before)
        time.sleep(dice.random() * 0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        ends.append(process.returncode)
        assert process.returncode in (-signal.SIGKILL, 130, 0), err
        if process.returncode == 130:
            assert json.loads(out)["exit_code"] == 130
            assert "--resume" in err
    assert main(["train", "--resume", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(folder / "model.foreword")
    assert ends[0] == -signal.SIGKILL
    assert facts(folder) == facts(tmp_path / "whole"), ends


def test_what_is_kept_of_the_base_changes_nothing_and_goes_at_the_end(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    """Training begins at layer 1; also when the run was stopped and the kept states were computed, or found, again."""

    def asked(name: str, **settings: Any) -> TrainRequest:
        method = {"layers": "1:"}
        return request_of(labelled, base("llama"), tmp_path / name, method_settings=method, settings=settings)

    whole = api.train(asked("whole"))
    told = facts(tmp_path / "whole")
    plain = api.train(asked("plain", cache_memory_mib=0, cache_disk_mib=0))
    assert whole.dev == plain.dev
    for name, memory in (("memory", 1024), ("files", 0)):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, 4, kill)
            with pytest.raises(Killed):
                api.train(asked(name, cache_memory_mib=memory))
        assert (tmp_path / name / "cache").exists() == (memory == 0)
        api.resume(tmp_path / name)
        assert facts(tmp_path / name)["digest"] == told["digest"]
        assert not list((tmp_path / name).glob("cache/*"))


def test_auto_batches_are_found_once_and_change_nothing(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foreword.runs.train import precompute

    found: list[int] = []
    monkeypatch.setattr(precompute, "rows_that_fit", lambda make, rows, limit: found.append(3) or 3)
    auto = {"per_device_train_batch_size": "auto"}
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(Killed):
            api.train(request_of(labelled, base("llama"), tmp_path / "stopped", settings=auto))
    made = api.resume(tmp_path / "stopped")
    assert found == [3]
    assert not any("out of memory" in alarm for alarm in made.alarms)
    whole = api.train(
        request_of(labelled, base("llama"), tmp_path / "whole", settings={"per_device_train_batch_size": 16})
    )
    assert made.dev == whole.dev


def chosen(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    choice = Precision(dtype, Message("the base is small"))
    monkeypatch.setattr("foreword.core.base.load.best_precision", lambda config, kind, device: choice)


def test_a_run_keeps_the_precision_that_was_chosen_when_it_began(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    chosen(monkeypatch, torch.bfloat16)
    made = api.train(request_of(labelled, base("llama"), whole))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, kill)
        with pytest.raises(Killed):
            api.train(request_of(labelled, base("llama"), stopped))
    chosen(monkeypatch, torch.float32)
    again = api.resume(stopped)
    assert facts(stopped) == facts(whole)
    assert load(again.file)[1].dtype == "bfloat16"
    assert json.loads((stopped / "report.json").read_text())["base"]["precision"] == "bfloat16"
    assert "dtype: bfloat16" in (whole / "settings.yaml").read_text()
    assert "the base in bfloat16: the base is small" in made.text
    assert api.verify(made.file).ok
