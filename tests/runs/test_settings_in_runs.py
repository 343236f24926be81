"""Settings of methods, tasks and training that change what a run does: each one runs, and its file answers again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.data.readers.read import read
from foreword.errors import DataError, ForewordError
from foreword.evaluation.predictions import read_jsonl
from foreword.settings.schema import TrainRequest

Requests = Callable[..., TrainRequest]
Rows = Callable[[str, int], list[dict[str, str]]]

PAIRS = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5}
WORDS = {"guidance": "Say yes or no.\n", "template": "{{ text }}:"}

METHODS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "prefix", {"reparameterise": True, "hidden_size": 8}),
    ("llama", "prefix", {"layers": "1:", "init": "random", "num_virtual_tokens": 3}),
    ("llama", "prefix", {"layers": ":1"}),
    ("llama", "prefix", {"num_virtual_tokens": 4, "freeze_first": False}),
    ("mistral", "prefix", {}),
    ("qwen3_next", "prefix", {}),
    ("t5", "prefix", {"sites": "encoder.self.*"}),
    ("t5", "prefix", {"sites": "decoder.cross.*", "init": "random"}),
    ("t5", "prompt", {"init": "vocabulary", "num_virtual_tokens": 5}),
    ("llama", "prompt", {"init": "random", "num_virtual_tokens": 5}),
    ("llama", "ptuning", {"encoder": "lstm", "hidden_size": 8}),
]


@pytest.mark.parametrize(("family", "method", "settings"), METHODS, ids=lambda value: str(value))
def test_method_settings(
    tmp_path: Path,
    labelled: str,
    base: Callable[[str], str],
    request_of: Requests,
    family: str,
    method: str,
    settings: dict[str, Any],
) -> None:
    asked = request_of(
        labelled, base(family), tmp_path / "run", method=method, method_settings=settings, settings={"max_steps": 3}
    )
    made = api.train(asked)
    verified = api.verify(made.file)
    assert verified.ok, verified.render()
    _, manifest = load(made.file)
    assert all(manifest.settings["method"][name] == value for name, value in settings.items())  # type: ignore[call-overload, index]


@pytest.mark.parametrize("optim", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_training_settings(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, optim: str, schedule: str
) -> None:
    settings = {"optim": optim, "lr_scheduler_type": schedule, "weight_decay": 0.01, "num_train_epochs": 0.7}
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", settings=settings))
    assert len(json.loads((tmp_path / "run" / "report.json").read_text())["training"]["steps"]) == 5
    assert api.verify(made.file).ok


def test_bfloat16(tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests) -> None:
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", settings={"dtype": "bfloat16"}))
    value, _ = load(made.file)
    assert all(str(t.dtype) == "torch.float32" for t in value.tensors().values())  # small steps are not lost
    assert api.verify(made.file).ok


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_the_metric_that_decides(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, metric: str
) -> None:
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", task={**WORDS, "metric": metric}))
    assert made.metric == metric
    assert metric in made.systems["foreword"]["metrics"]


@pytest.mark.parametrize("metric", ["perplexity", "chrf", "rouge_l", "exact_match"])
def test_the_metric_that_decides_a_generation(
    tmp_path: Path, paired: str, base: Callable[[str], str], request_of: Requests, metric: str
) -> None:
    made = api.train(request_of(paired, base("llama"), tmp_path / "run", task={**PAIRS, "metric": metric}))
    assert made.metric == metric
    assert made.dev is not None
    assert made.floor is not None
    assert made.dev >= made.floor
    if metric == "perplexity" and made.outcome == "learned":
        figures = {name: one["metrics"]["perplexity"]["value"] for name, one in made.systems.items()}
        assert made.difference is not None
        assert made.difference["estimate"] == pytest.approx(figures["foreword"] - figures["prompt"], rel=1e-3)
    assert api.verify(made.file).ok


def test_several_references(tmp_path: Path, base: Callable[[str], str], request_of: Requests, rows_of: Rows) -> None:
    rows = [{**row, "completion": [row["completion"], row["prompt"]]} for row in rows_of("pairs", 30)]
    made = api.train(request_of(rows, base("llama"), tmp_path / "run", task=PAIRS))
    found = read_jsonl(tmp_path / "run" / "predictions" / "foreword.jsonl")
    assert all(len(row.references) == 2 for row in found)
    assert api.verify(made.file).ok


def test_labels_have_words_of_several_tokens_and_lengths(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests, labelled: str
) -> None:
    task = {**WORDS, "labels": {"no": "certainly not", "yes": "ok"}}
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run", task=task))
    assert {row.output for row in api.predict(made.file, labelled)} <= {"no", "yes"}
    assert api.verify(made.file).ok


def test_only_the_first_tokens_of_long_fields(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests, rows_of: Rows
) -> None:
    rows = [{**row, "text": row["text"] + "w" * 600} for row in rows_of("words", 40)]
    with pytest.raises(DataError):
        api.train(request_of(rows, base("llama"), tmp_path / "run"))
    made = api.train(request_of(rows, base("llama"), tmp_path / "run", task={**WORDS, "first_k": 8}))
    assert api.verify(made.file).ok
    assert api.predict(made.file, rows[:1])[0].input == rows[0]["text"][:8] + ":"


def test_special_tokens_count_too(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests, rows_of: Rows
) -> None:
    """A text that fits only without the tokens that an encoder's tokenizer puts around it does not fit."""
    import shutil

    from tokenizers import processors

    from foreword.testing.method_contracts import byte_tokenizer

    folder = tmp_path / "bert"
    shutil.copytree(base("bert"), folder)
    tokenizer = byte_tokenizer()
    around = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = around
    tokenizer.save_pretrained(folder)
    task = {"template": "{{ text }}", "guidance": "", "head": True}
    settings = {"method_settings": {"init": "random"}, "settings": {"max_steps": 1}}
    fits, long = ([{**row, "text": row["text"] + "w" * more} for row in rows_of("words", 40)] for more in (502, 503))
    with pytest.raises(DataError, match="513 tokens"):
        api.train(request_of(long, str(folder), tmp_path / "long", task=task, **settings))
    made = api.train(request_of(fits, str(folder), tmp_path / "fits", task=task, **settings))
    assert api.verify(made.file).ok
    with pytest.raises(DataError):
        api.predict(made.file, long[:1])


def test_bad_rows_are_left_out_and_counted(
    tmp_path: Path, base: Callable[[str], str], request_of: Requests, rows_of: Rows
) -> None:
    rows = rows_of("words", 60)
    bad = [*rows, {"text": "", "label": "no"}, {"text": "w" * 600, "label": "yes"}]
    with pytest.raises(DataError) as caught:
        api.train(request_of(bad, base("llama"), tmp_path / "run"))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "run").exists()
    made = api.train(request_of(bad, base("llama"), tmp_path / "run", skip_bad=True))
    assert sum(made.rows.values()) == 60
    data = json.loads((tmp_path / "run" / "report.json").read_text())["data"]
    assert sum(sum(json.loads(split["dropped"]).values()) for split in data.values()) == 2


def test_starting_from_another_foreword(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    first = api.train(request_of(labelled, base("llama"), tmp_path / "first"))
    if first.outcome != "learned":
        pytest.skip("nothing was learned to start from")
    asked = request_of(
        labelled,
        base("llama"),
        tmp_path / "second",
        init_from=first.file,
        settings={"max_steps": 1, "learning_rate": 1e-12},
    )
    again = api.train(asked)
    old, new = load(first.file)[0], load(again.file)[0]
    assert old.tensors().keys() == new.tensors().keys()
    assert all(abs(new.tensors()[name] - tensor).max() < 1e-6 for name, tensor in old.tensors().items())
    with pytest.raises(ForewordError, match="another base"):
        api.train(request_of(labelled, base("mistral"), tmp_path / "third", init_from=first.file))


def test_the_same_by_keywords_and_by_the_command_line(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run, asked for in three ways, gives the same bits."""
    settings = {"learning_rate": 5e-2, "num_train_epochs": 1.0, "per_device_train_batch_size": 8}
    digests = [load(api.train(request_of(labelled, base("llama"), tmp_path / "a", settings=settings)).file)[0].digest()]
    made = api.train(labelled, base=base("llama"), output_dir=tmp_path / "b", **WORDS, **settings)
    digests.append(load(made.file)[0].digest())
    words = ["train", labelled, "--base", base("llama"), "--output-dir", str(tmp_path / "c"), "--json"]
    words += ["--guidance", WORDS["guidance"], "--template", WORDS["template"], "--learning-rate", "0.05"]
    words += ["--num-train-epochs", "1", "--set", "per_device_train_batch_size=8"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    digests.append(load(told["file"])[0].digest())
    assert len(set(digests)) == 1
    assert told["systems"]["foreword"]["metrics"] == made.systems["foreword"]["metrics"]


def test_commands_on_a_file(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    made = api.train(request_of(labelled, base("llama"), tmp_path / "run"))

    def told(*words: str, code: int = 0) -> Any:
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    assert told("evaluate", made.file, labelled)["rows"] == 60
    assert told("verify", made.file)["ok"] is True
    assert told("predict", made.file, "--text", "abx")["output"] in ("yes", "no")
    assert told("show", made.file)["method"] in ("prefix", "text")
    assert [row["file"] for row in told("ls", str(tmp_path))] == [made.file]
    assert told("verify", made.file, "--base", base("mistral"), code=1)["error"] == "BaseMismatchError"
    assert told("check", labelled)["counts"]
    assert (
        told("train", labelled, "--base", base("llama"), "--output-dir", str(tmp_path / "run"), code=2)["error"]
        == "SettingsError"
    )
    plan = told("train", labelled, "--base", base("llama"), "--output-dir", str(tmp_path / "new"), "--dry-run")
    assert plan["optimizer_steps"] > 0
    assert not (tmp_path / "new").exists()


def test_decoding_travels_in_the_file(
    request_of: Requests, paired: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    task = {"guidance": "Begin.\n", "template": "{{ prompt }}:", "max_new_tokens": 5, "min_new_tokens": 2}
    drawn = {"do_sample": True, "top_k": 5, "top_p": 0.9, "temperature": 2.0, "sampling_seed": 3, "stop": ("zz",)}
    wanted = request_of(paired, base("llama"), tmp_path / "run", task={**task, **drawn, "repetition_penalty": 1.2})
    result = api.train(replace(wanted, method="text"))
    decoding = load(result.file)[1].task["decoding"]
    assert {name: decoding[name] for name in drawn} == {**drawn, "stop": ["zz"]}  # type: ignore[call-overload]
    assert decoding["repetition_penalty"] == 1.2  # type: ignore[call-overload]
    assert api.verify(result.file).ok  # what was drawn is drawn again
    text = str(read(paired).rows[0].fields["prompt"])
    first = api.generate(result.file, text)
    assert api.generate(result.file, text) == first
    assert len({api.generate(result.file, text, sampling_seed=seed) for seed in range(6)}) > 1
