"""What a run starts from: refused before a base is looked for, with what the file holds instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foreword import api, load, save
from foreword.errors import BaseMismatchError, FileFormatError, SettingsError
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TaskOptions, TrainRequest

Ask = Callable[..., TrainRequest]


@pytest.fixture
def learned(request_of: Ask, labelled: str, base: Callable[[str], str], tmp_path: Path) -> str:
    """A file with keys and values, whatever the run itself gained."""
    from foreword import load_base

    made = api.train(request_of(labelled, base("llama"), tmp_path / "learned", method="text"))
    _, manifest = load(made.file)
    ids = tuple(range(5, 9))
    value = make_writer(make("prefix"), Start(load_base(base("llama")).model, "abcd", ids)).write().detach()
    path = tmp_path / "learned.foreword"
    save(path, value, manifest)
    return str(path)


def test_a_file_without_what_the_method_starts_from(
    request_of: Ask, labelled: str, learned: str, tmp_path: Path
) -> None:
    for method in ("lora", "full", "prompt", "ptuning"):
        with pytest.raises(SettingsError, match="which this foreword does not have") as refused:
            api.train(request_of(labelled, "no/base", tmp_path / "a", method=method, init_from=learned))
        assert "method='prefix'" in str(refused.value)
        assert refused.value.where == learned


def test_what_cannot_start_from_a_file(request_of: Ask, labelled: str, learned: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="method text cannot start"):
        api.train(request_of(labelled, "no/base", tmp_path / "a", method="text", init_from=learned))
    with pytest.raises(FileFormatError, match="cannot be opened"):
        api.train(request_of(labelled, "no/base", tmp_path / "a", init_from=str(tmp_path / "nothing.foreword")))
    with pytest.raises(SettingsError, match="init_from='FILE"):
        api.train(request_of(labelled, "no/base", tmp_path / "a", method_settings={"init": "foreword"}))


def test_a_file_of_another_kind_of_base(
    request_of: Ask,
    labelled: str,
    learned: str,
    base: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", None)
    with pytest.raises(BaseMismatchError, match="another base"):
        api.train(request_of(labelled, base("bert"), tmp_path / "a", init_from=learned, task={"head": True}))


def test_layerwise_rates_for_a_method_without_layers(request_of: Ask, labelled: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="full, lora or prefix"):
        api.train(request_of(labelled, "no/base", tmp_path / "a", method="prompt", settings={"layerwise_decay": 0.9}))


def test_the_check_asks_a_base_what_it_can_be_asked_before_its_weights_are_read(
    labelled: str, base: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
    for options, problem in (
        ({"template": "{{ text }} {{ mask }}"}, "no masked language model"),
        ({"labels": {"no": "good", "yes": "good "}}, "the same words"),
        ({"first_k": 50}, "the whole of every input"),
    ):
        with pytest.raises(SettingsError, match=problem):
            api.check(labelled, base=base("llama"), task_options=TaskOptions(**options))
