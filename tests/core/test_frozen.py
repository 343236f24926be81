"""Passes that begin at a later layer: the same numbers, from fewer layers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.layer_cache import first_trained, layers_of, why_not
from foreword.core.passes.tensor_cache import TensorCache
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.testing.method_contracts import FAMILIES, TEXT, tiny
from foreword.training.loop import Score, Trial
from foreword.training.objective import Choose, Classify, Complete, Objective
from foreword.training.reuse import Filling, prepare_reuse
from foreword.training.side_by_side import train_all

WORDS = Choose(((40, 41), (50,)), 0)
PLAIN = ("llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "qwen3", "gpt_oss", "gpt_neox", "deepseek_v3", "bert",
         "roberta", "electra", "distilbert", "modernbert")  # fmt: skip
ROOM = 2**30


def rows(count: int = 7) -> list[Example]:
    dice = random.Random(0)

    def ids(least: int, most: int) -> tuple[int, ...]:
        return tuple(dice.randrange(3, 250) for _ in range(dice.randrange(least, most)))

    return [Example(str(i), ids(2, 9), ids(1, 4), i % 2, "ab"[i % 2]) for i in range(count)]


def trial(model: Any, objective: Objective, rate: float = 2e-2, init: str = "text", **given: Any) -> Trial:
    settings = TrainSettings(per_device_train_batch_size=3, num_train_epochs=2, early_stopping_patience=0, **given)
    start = Start(model, "g", TEXT, classes=2 if isinstance(objective, Classify) else 0)
    writer = make_writer(make("prefix", {"layers": "1:", "init": init}), start)
    return Trial(model, writer, objective, rows(), settings, rate, lambda value: Score(0.0, 0.0))


def prepared(one: Trial, store: TensorCache | None = None) -> Any:
    kept = TensorCache(ROOM) if store is None else store
    return prepare_reuse(one.model, one.writer.write(), one.objective, one.rows, kept, Filling(batch_size=4))


class Layers:
    """Counts how often each layer is really computed: its first normalisation or projection is called."""

    def __init__(self, model: Any) -> None:
        self.counts = [0] * len(layers_of(model))
        self.handles = [
            next(m for m in layer.modules() if m is not layer and not list(m.children())).register_forward_hook(
                lambda *_, number=number: self._count(number)
            )
            for number, layer in enumerate(layers_of(model))
        ]

    def _count(self, number: int) -> None:
        self.counts[number] += 1


def same(got: Trial, expected: Trial) -> None:
    for name, tensor in expected.current().tensors().items():
        assert torch.allclose(got.current().tensors()[name], tensor, atol=1e-5 * max(1.0, float(tensor.abs().max())))
    assert [s.loss for s in got.progress.steps] == pytest.approx([s.loss for s in expected.progress.steps], abs=1e-5)


def objectives(family: str) -> Iterator[Objective]:
    yield Classify("mean", tiny(family).config.pad_token_id or 0)
    if find_sites(tiny(family)).kind == "decoder":
        yield from (WORDS, Complete(0, lead=(5,)))


@pytest.mark.parametrize("family", PLAIN)
def test_training_from_a_later_layer_is_training(family: str) -> None:
    model = tiny(family)
    for objective in objectives(family):
        alone, reused = trial(model, objective), trial(model, objective)
        list(alone.run(4))
        reused.frozen = prepared(reused).frozen
        assert reused.frozen is not None
        layers = Layers(model)
        list(reused.run(4))
        assert layers.counts[0] == 0, "the first layer was computed"
        assert min(layers.counts[1:]) >= 4
        for handle in layers.handles:
            handle.remove()
        same(reused, alone)


def test_without_values_in_front_below_and_with_checkpointing() -> None:
    model = tiny("llama")
    for given in ({"init": "random"}, {"gradient_checkpointing": True}):
        alone, reused = trial(model, WORDS, **given), trial(model, WORDS, **given)
        list(alone.run(3))
        reused.frozen = prepared(reused).frozen
        list(reused.run(3))
        same(reused, alone)
    assert not any("forward" in vars(layer) for layer in layers_of(model))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_trials_side_by_side_share_what_is_kept() -> None:
    model = tiny("llama")
    together, alone = ([trial(model, WORDS, rate) for rate in (1e-2, 5e-2)] for _ in range(2))
    frozen = prepared(together[0]).frozen
    for one in together:
        one.frozen = frozen
    layers = Layers(model)
    train_all(together)
    assert layers.counts[0] == 0
    for one, other in zip(together, alone, strict=True):
        list(other.run())
        same(one, other)


def test_an_evaluation_is_kept_too_and_rows_that_are_new_are_computed() -> None:
    model = tiny("llama")
    one = trial(model, WORDS)
    one.frozen = prepared(one).frozen
    seen = rows(9)[7:]

    def evaluate(value: Foreword) -> Score:
        from foreword.core.inject.injection import injected

        with torch.no_grad(), injected(model, [value]):
            found = WORDS.outputs(model, seen).values
        return Score(0.0, float(found.sum()))

    one.evaluate, one.settings = evaluate, one.settings
    layers = Layers(model)
    list(one.run())
    assert layers.counts[0] == 1  # the dev rows, once
    frozen, one.frozen = one.frozen, None
    assert frozen is not None
    assert one.progress.evaluations[-1].score.loss == pytest.approx(evaluate(one.current()).loss, abs=1e-5)


def test_other_values_below_are_other_states() -> None:
    model = tiny("llama")
    store = TensorCache(ROOM)
    first = trial(model, WORDS)
    prepared(first, store)
    other = trial(model, WORDS)
    start = Start(model, "other", TEXT[:3])
    other.writer = make_writer(make("prefix", {"layers": "1:"}), start)
    before = len(store)
    prepared(other, store)
    assert len(store) == 2 * before


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(PLAIN)))
def test_other_models_are_told_why_not(family: str) -> None:
    assert why_not(tiny(family))


@pytest.mark.parametrize(
    ("method", "settings"), [("prefix", {}), ("prompt", {}), ("prefix", {"layers": "1:", "reparameterise": True})]
)
def test_where_training_begins(method: str, settings: dict[str, Any]) -> None:
    model = tiny("llama")
    value = make_writer(make(method, settings), Start(model, "g", TEXT)).write()
    assert first_trained(model, value) == (1 if "layers" in settings else 0)
    if "layers" not in settings:
        assert prepare_reuse(model, value, WORDS, rows(), TensorCache(ROOM)).why_not == ""


def test_what_does_not_fit_is_computed_every_time() -> None:
    model = tiny("llama")
    one = trial(model, WORDS)
    assert "MiB" in prepared(one, TensorCache(100)).why_not
    tokens = sum(len(row.input_ids) for row in one.rows)
    found = prepared(one, TensorCache(32 * 4 * tokens + 2000))
    assert found.frozen is None or not found.frozen.refused


def test_files_take_what_memory_does_not(tmp_path: Path) -> None:
    model = tiny("llama")
    alone, reused = trial(model, WORDS), trial(model, WORDS)
    list(alone.run())
    store = TensorCache(2000, ROOM, tmp_path / "cache")
    reused.frozen = prepared(reused, store).frozen
    files = sorted((tmp_path / "cache").iterdir())
    assert 0 < len(files) < len(store)
    list(reused.run())
    same(reused, alone)
    # A process that goes on finds them; one that is damaged is computed again.
    files[0].write_bytes(b"half")
    again, found = trial(model, WORDS), TensorCache(2000, ROOM, tmp_path / "cache")
    assert len(found) == len(files)
    again.frozen = prepared(again, found).frozen
    list(again.run())
    same(again, alone)
    store.clear()
    assert not (tmp_path / "cache").exists()
