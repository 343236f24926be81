"""Settings from Python, YAML, flags and --set: one meaning, refused with the place and the nearest name."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from foreword.errors import SettingsError
from foreword.settings.layers import RequestKeys, from_json, resolve
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from foreword.settings.values import Given, Range, build, field_types
from foreword.settings.yaml import read_yaml, to_yaml


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_key_means_two_things() -> None:
    keys = [*field_types(TrainSettings), *field_types(TaskOptions), *field_types(RequestKeys), "method", "task"]
    assert len(keys) == len(set(keys))


def test_every_field_is_described() -> None:
    for cls in (TrainSettings, TaskOptions, TrainRequest):
        for name in cls.__dataclass_fields__:
            assert f"\n        {name}: " in (cls.__doc__ or ""), name


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"learning_rate": -1.0}, "greater than 0"),
        ({"learning_rate": "fast"}, "a number"),
        ({"learning_rate": float("nan")}, "a number"),
        ({"seed": 1.5}, "a whole number"),
        ({"seed": True}, "a whole number"),
        ({"optim": "adamax"}, "adamw or adam or sgd or rmsprop"),
        ({"warmup_ratio": 1.5}, "at most 1"),
        ({"sweep": (0.1, 0.0)}, "greater than 0"),
        ({"max_steps": -2}, "at least -1"),
        ({"gradient_checkpointing": 1}, "true or false"),
        ({"device": None}, "text"),
        ({"per_device_train_batch_size": 0}, "at least 1"),
        ({"per_device_train_batch_size": "many"}, "a number or auto"),
    ],
)
def test_wrong_values_are_refused_in_python(values: dict[str, Any], part: str) -> None:
    with pytest.raises(SettingsError, match=part) as caught:
        TrainSettings(**values)
    assert next(iter(values)) in str(caught.value)


def test_values_are_what_the_types_say() -> None:
    settings = TrainSettings(num_train_epochs=2, sweep=[1, 0.5], seed=3.0)  # type: ignore[arg-type]
    assert settings.num_train_epochs == 2.0
    assert isinstance(settings.num_train_epochs, float)
    assert settings.sweep == (1.0, 0.5)
    assert settings.seed == 3
    assert isinstance(settings.seed, int)
    assert replace(settings, seed=4).seed == 4
    assert hash(settings) == hash(replace(settings))


def test_rows_of_a_batch_as_the_command_line_gives_them() -> None:
    assert resolve(flags={"per_device_train_batch_size": "4"}).settings.per_device_train_batch_size == 4
    assert resolve(flags={"per_device_train_batch_size": "auto"}).settings.per_device_train_batch_size == "auto"
    with pytest.raises(SettingsError, match="per_device_train_batch_size"):
        resolve(flags={"per_device_train_batch_size": "0"})


def test_a_slice_is_text_whatever_yaml_makes_of_it() -> None:
    assert resolve(assignments=["layers=15:"]).method_settings == {"layers": "15:"}
    assert resolve(assignments=["method.layers=:4"]).method_settings == {"layers": ":4"}


def test_words_for_bases_in_any_case() -> None:
    for word in ("LSTM", "Gru", "TextGenRNN"):
        flags = {"data": "d.csv", "output_dir": "out", "base": word}
        assert resolve(flags=flags).request().base == word.lower()


def test_labels_typed_on_a_chinese_keyboard() -> None:
    assert dict(resolve(flags={"labels": "好评＝好｜棒，差评=差"}).task_options.labels or {}) == {
        "好评": "好|棒",
        "差评": "差",
    }


def test_a_file_with_sections_and_flat_keys(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "data: d.csv\nlearning_rate: 5e-3\nsweep: [1e-2, 2e-2]\nlabels:\n  01: ' good'\n  no: bad\n"
        "task:\n  inputs: text\n  guidance: |\n    Say it.\n\nmethod: ptuning\nnum_virtual_tokens: 9\n"
        "training:\n  max_grad_norm: 0\n  max_length: null\n",
    )
    resolved = resolve(path)
    assert resolved.keys.data == "d.csv"
    assert resolved.settings == TrainSettings(learning_rate=0.005, sweep=(0.01, 0.02), max_grad_norm=0.0)
    assert dict(resolved.task_options.labels or {}) == {"01": " good", "no": "bad"}
    assert resolved.task_options.inputs == ("text",)
    assert resolved.task_options.guidance == "Say it.\n"
    assert (resolved.method, resolved.method_settings) == ("ptuning", {"num_virtual_tokens": 9})
    assert resolved.places["learning_rate"] == f"{path}:2"
    assert resolved.places["labels"] == f"{path}:4"


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("training:\n  sed: 3\n", 2, "did you mean seed?"),
        ("learning_rat: 3\n", 1, "did you mean learning_rate?"),
        ("\n\nseed: [1, 2]\n", 3, "a whole number"),
        ("seed: 1\nseed: 2\n", 2, "given twice"),
        ("seed: 1\ntask: 7\n", 2, "one a line"),
        ("seed: [1\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("seed: !!python/object:os.system {}\n", 1, "not allowed"),
        ("method: &m\n  again: *m\n", 1, "alias"),
        ("- 1\n- 2\n", 1, "map of keys"),
        ("? [a]\n: 1\n", 1, "a key is a word"),
        ("method:\n  name: 3\n", 2, "name of a method"),
        ("labels: {a: [1]}\n", 1, "text"),
        ("labels: 'a=x,a=y'\n", 1, "every label once"),
    ],
)
def test_wrong_files_name_the_line(tmp_path: Path, text: str, line: int, part: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError, match=part) as caught:
        resolve(path)
    assert caught.value.where == f"{path}:{line}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path, tmp_path / "none", tmp_path / "binary"):
        with pytest.raises(SettingsError, match="cannot be read"):
            resolve(path)
    assert read_yaml(written(tmp_path, "# nothing\n")) == {}
    assert resolve(written(tmp_path, "\ufeffseed: 5\n")).settings.seed == 5


def test_flags_win_over_the_file_and_set_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\noptim: sgd\nweight_decay: 0.1\n")
    resolved = resolve(path, {"seed": 2, "optim": "adam", "base": None}, ["seed=3"])
    assert (resolved.settings.seed, resolved.settings.optim, resolved.settings.weight_decay) == (3, "adam", 0.1)
    assert resolved.keys.base is None
    assert {key: resolved.places[key] for key in ("seed", "optim")} == {"seed": "--set seed", "optim": "--optim"}


@pytest.mark.parametrize(
    ("assignment", "read", "expected"),
    [
        ("training.learning_rate=1e-3", lambda r: r.settings.learning_rate, 1e-3),
        ("learning_rate=null", lambda r: r.settings.learning_rate, None),
        ("sweep=0.01,0.02", lambda r: r.settings.sweep, (0.01, 0.02)),
        ("sweep=[0.01, 0.02]", lambda r: r.settings.sweep, (0.01, 0.02)),
        ("sweep=0.01", lambda r: r.settings.sweep, (0.01,)),
        ("sweep=", lambda r: r.settings.sweep, ()),
        ("inputs=premise,hypothesis", lambda r: r.task_options.inputs, ("premise", "hypothesis")),
        ("template=Text: {{ text }}", lambda r: r.task_options.template, "Text: {{ text }}"),
        ("template={{ text }}\\nLabel:", lambda r: r.task_options.template, "{{ text }}\nLabel:"),
        ("guidance=", lambda r: r.task_options.guidance, ""),
        ("target=007", lambda r: r.task_options.target, "007"),
        ("chat=true", lambda r: r.task_options.chat, True),
        ("labels=a=x,b=y", lambda r: dict(r.task_options.labels), {"a": "x", "b": "y"}),
        ("labels=a,b", lambda r: dict(r.task_options.labels), {"a": "a", "b": "b"}),
        ("task.labels.a=x", lambda r: dict(r.task_options.labels), {"a": "x"}),
        ("method=prompt", lambda r: r.method, "prompt"),
        ("method.num_virtual_tokens=8", lambda r: r.method_settings, {"num_virtual_tokens": 8}),
        ("layers=15:", lambda r: r.method_settings, {"layers": "15:"}),
        ("method.layers=:4", lambda r: r.method_settings, {"layers": ":4"}),
        ("method.layers=[0, 1]", lambda r: r.method_settings, {"layers": [0, 1]}),
        ("mlp=true", lambda r: r.method_settings, {"mlp": True}),
    ],
)
def test_set(assignment: str, read: Any, expected: object) -> None:
    assert read(resolve(assignments=[assignment])) == expected


@pytest.mark.parametrize(
    "assignment", ["seed", "=3", "seed=abc", "training.sed=1", "seeed=1", "name=prefix", "seed=&a [*a]"]
)
def test_set_refuses(assignment: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(assignments=[assignment])
    assert (caught.value.where or "").startswith("--set")


def test_a_slice_without_quotes_in_a_file_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(written(tmp_path, "method:\n  layers: 15:\n"))
    assert "quotes" in str(caught.value.hint)


def test_no_setting_of_a_method_is_taken_for_a_slip() -> None:
    from foreword.methods.base import registry

    for method in registry().values():
        for field in fields(method):
            assert resolve(assignments=[f"{field.name}=1"]).method_settings == {field.name: 1}


def request_of(tmp_path: Path) -> TrainRequest:
    return TrainRequest(
        data="d.csv",
        base="b",
        output_dir=tmp_path / "run",
        method="ptuning",
        method_settings={"num_virtual_tokens": 4, "layers": [0, 2], "text": "1"},
        settings=TrainSettings(sweep=(0.1, 0.01), optim="sgd"),
        task_options=TaskOptions(labels={"01": " a", "yes": "是"}, template="a\nb: {{ c }} \n", metrics=("bleu",)),
        skip_bad=True,
    )


def test_the_record_of_a_request_reads_back_from_json_and_yaml(tmp_path: Path) -> None:
    request = request_of(tmp_path)
    record = request.to_json()
    text = to_yaml(record)
    path = written(tmp_path, text)
    for resolved in (from_json(json.loads(json.dumps(record))), resolve(path)):
        again = resolved.request()
        assert again.to_json() == record
        assert again.settings == request.settings
        assert again.method_settings == request.method_settings
        assert again.task_options == request.task_options
    assert "是" in text


def test_data_in_memory_is_recorded_by_its_type() -> None:
    assert TrainRequest(data=[{"text": "a"}], base="b", output_dir="r").to_json()["data"] == "<list in memory>"


def test_guidance_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "guidance.txt"
    path.write_text("\ufeffDecide.\n", encoding="utf-8")
    assert TaskOptions(guidance_file=str(path)).guidance_text() == "Decide.\n"
    assert TaskOptions(guidance="Now.").guidance_text() == "Now."
    assert TaskOptions().guidance_text() is None
    with pytest.raises(SettingsError, match="given twice"):
        TaskOptions(guidance="Now.", guidance_file=str(path))
    with pytest.raises(SettingsError, match="cannot be read"):
        TaskOptions(guidance_file=str(tmp_path)).guidance_text()


@dataclass(frozen=True)
class Method:
    num_virtual_tokens: Annotated[int, Range(least=1)] = 20
    init: Literal["text", "random"] = "text"
    layers: tuple[int, ...] | None = None


def test_build_makes_a_methods_own_settings() -> None:
    assert build(Method, {"num_virtual_tokens": 8, "layers": [0, 3]}) == Method(8, "text", (0, 3))
    with pytest.raises(SettingsError, match="did you mean num_virtual_tokens") as caught:
        build(Method, {"num_virtual_token": Given.of(8, "task.yaml:7")})
    assert caught.value.where == "task.yaml:7"
    with pytest.raises(SettingsError, match="text or random"):
        build(Method, {"init": "vocabulary"})


def test_a_word_that_is_none_of_an_optional_settings_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        TaskOptions(task_kind="clasification")  # type: ignore[arg-type]
    assert caught.value.expected == "classification or multilabel or generation or tagging"
    assert TaskOptions(task_kind="tagging").task_kind == "tagging"
