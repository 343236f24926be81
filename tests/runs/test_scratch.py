"""``--base lstm``: a base trained on the run's own rows, kept in the run's folder, made once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.cli.main import main
from foreword.core.base.load import load_base
from foreword.errors import BaseError, DataError, ForewordError, Interrupted, SettingsError
from foreword.runs.prepare import base as run_base
from foreword.settings.layers import from_json, resolve
from foreword.settings.schema import BaseSettings, TrainRequest

SMALL = BaseSettings(hidden_size=16, num_train_epochs=2.0, vocab_size=280, batch_size=16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def scratch(request_of: Callable[..., TrainRequest], labelled: str, tmp_path: Path) -> Callable[..., TrainRequest]:
    def make(cell: str = "lstm", folder: str = "run", **more: Any) -> TrainRequest:
        made = request_of(labelled, cell, tmp_path / folder, **more)
        return replace(made, base_settings=SMALL)

    return make


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_run_trains_its_base_and_keeps_it(scratch: Callable[..., TrainRequest], cell: str, tmp_path: Path) -> None:
    seen: list[str] = []
    result = api.train(replace(scratch(cell), progress=lambda name, done, total, **_: seen.append(name)))
    folder = tmp_path / "run" / "base"
    assert f"train the {cell}" in seen
    assert api.show(result.file)["base"]["id"] == str(folder)
    assert load_base(folder).model.config.cell == cell
    assert json.loads((folder / "training.json").read_text())["settings"] == SMALL.to_json()
    assert api.verify(result.file).ok
    assert api.evaluate(result.file, str(tmp_path / "labelled.csv"))["rows"] == 60


def test_the_same_base_is_trained_once(scratch: Callable[..., TrainRequest], cache: Path) -> None:
    seen: list[str] = []
    api.train(scratch())
    api.train(replace(scratch(folder="other", method="prompt"), progress=lambda name, *_, **__: seen.append(name)))
    assert "train the lstm" not in seen
    assert len(list((cache / "bases").iterdir())) == 1


def test_an_interrupted_base_goes_on(scratch: Callable[..., TrainRequest], cache: Path) -> None:
    steps: list[int] = []

    def stop(name: str, done: int, total: int, **fields: object) -> None:
        if name == "train the lstm":
            steps.append(done)
            if len(steps) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    request = scratch()
    with pytest.raises(Interrupted, match="base"):
        api.train(replace(request, progress=stop))
    assert not Path(request.output_dir).exists()
    (left,) = (cache / "bases").glob("*.training")
    assert steps[-1] == 2
    steps.clear()
    api.train(replace(request, progress=lambda name, done, *_, **__: steps.append(done) if "lstm" in name else None))
    assert steps[0] == 3
    assert not left.exists()


def test_it_resumes_on_the_base_it_kept(scratch: Callable[..., TrainRequest], cache: Path) -> None:
    import shutil

    first = api.train(scratch())
    shutil.rmtree(cache)
    Path(first.file).unlink()
    again = api.resume(scratch().output_dir)
    assert again.dev == first.dev
    assert not (cache / "bases").exists()


def test_dry_run_trains_no_base(scratch: Callable[..., TrainRequest], cache: Path) -> None:
    plan = api.dry_run(scratch())
    assert plan["base"]["name"] == "lstm"
    assert not (cache / "bases").exists()


def test_its_settings_stand_under_base(tmp_path: Path) -> None:
    named = {"data": "d.csv", "base": "gru", "output_dir": "o"}
    found = resolve(flags=named, assignments=["base.hidden_size=24", "base.tokenizer=char"]).request()
    assert (found.base, found.base_settings.hidden_size, found.base_settings.tokenizer) == ("gru", 24, "char")
    again = from_json(found.to_json()).request()
    assert (again.base, again.base_settings) == (found.base, found.base_settings)
    (tmp_path / "s.yaml").write_text("base:\n  name: lstm\n  num_hidden_layers: 3\n")
    found = resolve(tmp_path / "s.yaml", {"data": "d", "output_dir": "o"}).request()
    assert (found.base, found.base_settings.num_hidden_layers) == ("lstm", 3)
    with pytest.raises(SettingsError, match="hiden") as wrong:
        resolve(flags=named, assignments=["base.hiden_size=24"])
    assert "hidden_size" in str(wrong.value.hint)
    with pytest.raises(SettingsError, match="settings of its own"):
        resolve(flags={**named, "base": "gpt2"}, assignments=["base.hidden_size=24"]).request()


def test_a_base_alone(labelled: str, paired: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"--set=base.{name}={value}" for name, value in SMALL.to_json().items()]
    out = str(tmp_path / "made")
    assert main(["base", labelled, paired, "--cell", "gru", "--output-dir", out, "--json", *small]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["folder"], told["cell"]) == (out, "gru")
    assert load_base(out).kind == "decoder"
    assert main(["base", labelled, "--output-dir", out]) == 2
    assert main(["base", labelled, "--cell", "rnn", "--output-dir", out + "2"]) == 2
    assert main(["base", "--output-dir", out + "2"]) == 2
    assert main(["base", labelled, paired, "--dev", labelled, "--output-dir", out + "2"]) == 2


def test_a_base_alone_leaves_bad_rows_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"房间{n}很干净。", "label": ("好", "坏")[n % 2]} for n in range(24)]
    file, dev, out = tmp_path / "rows.jsonl", tmp_path / "dev.jsonl", tmp_path / "made"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dev.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:2], {"text": "太吵。", "label": "坏"}]))
    small = [f"--set=base.{name}={value}" for name, value in SMALL.to_json().items()]
    asked = ["base", str(file), "--dev", str(dev), "--output-dir", str(out), *small]
    assert main(asked) == DataError.exit_code
    assert "same row in two splits" in capsys.readouterr().err
    assert main([*asked, "--skip-bad"]) == 0
    (kept,) = json.loads((out / "training.json").read_text())["rows"]
    assert kept["train"] + kept["dev"] == 25


def test_checking_data_for_it_loads_nothing(labelled: str) -> None:
    assert not api.check(labelled, base="lstm").refuses


def test_generation_and_a_head_on_it(
    request_of: Callable[..., TrainRequest], scratch: Callable[..., TrainRequest], paired: str, tmp_path: Path
) -> None:
    task = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}
    made = replace(request_of(paired, "lstm", tmp_path / "pairs", task=task), base_settings=SMALL)
    result = api.train(made)
    assert isinstance(api.generate(result.file, "abc"), str)
    headed = api.train(scratch(folder="head", task={"head": True, "pooling": "last", "template": "{{ text }}:"}))
    assert headed.num_values > 0
    assert api.verify(headed.file).ok


def test_soft_slots_on_it(scratch: Callable[..., TrainRequest]) -> None:
    template = "{{ soft(2) }}{{ text }}{{ soft('is') }}:"
    made = api.train(scratch(method="slots", task={"template": template, "labels": "no=n|none,yes=y"}))
    assert api.verify(made.file).ok


@pytest.mark.parametrize(
    ("method", "settings", "problem"),
    [("lora", {}, "no linear layers"), ("prefix", {"num_virtual_tokens": 4}, "one state in front")],
)
def test_what_cannot_be_learned_on_it_is_refused_before_it_is_trained(
    scratch: Callable[..., TrainRequest], method: str, settings: dict[str, int], problem: str
) -> None:
    seen: list[str] = []
    request = replace(
        scratch(method=method, method_settings=settings), progress=lambda name, *_, **__: seen.append(name)
    )
    with pytest.raises(ForewordError, match=problem):
        api.train(request)
    assert not seen


def test_textgenrnn_is_a_word(monkeypatch: pytest.MonkeyPatch, base: Callable[[str], str], tmp_path: Path) -> None:
    folder = base("lstm")
    monkeypatch.setitem(run_base._FETCH, "textgenrnn", lambda progress: Path(folder))
    assert run_base.find_base("textgenrnn").id == "textgenrnn"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "textgenrnn").mkdir()
    with pytest.raises(BaseError):  # a folder of that name comes first
        run_base.find_base("textgenrnn")


def test_k_tokens_must_cut_something(
    request_of: Callable[..., TrainRequest], labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    task = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}
    with pytest.raises(SettingsError, match="first 8 tokens are the whole"):
        api.train(request_of(labelled, "no/base", tmp_path / "a", task={**task, "first_k": 8}))
    long = [{"text": "语" * 8 + "xz"[i % 2], "label": ["no", "yes"][i % 2]} for i in range(40)]
    with pytest.raises((SettingsError, DataError)):
        api.train(request_of(long, base("llama"), tmp_path / "b", task={**task, "first_k": 26}))
    found = api.train(request_of(labelled, base("llama"), tmp_path / "c", task={**task, "first_k": 3}))
    assert api.show(found.file)["settings"]["first_k"] == 3
