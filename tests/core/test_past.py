"""Soft slots behind a row's words: the words' keys and values are computed once, and training is the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from foreword.core.passes.prefix_cache import begins, has_past
from foreword.core.passes.tensor_cache import TensorCache
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.testing.method_contracts import FAMILIES, tiny
from foreword.training.loop import Score, Trial
from foreword.training.objective import Choose, Classify, Complete, Objective
from foreword.training.reuse import prepare_reuse
from foreword.training.side_by_side import train_all

EXACT = sorted(name for name, family in FAMILIES.items() if family.exact_text and name not in ("lstm", "gru"))
WORDS = Choose(((40, 41), (50,)), 0, lead=(7, 9))
SLOTS = (-1, -2, -3)


def rows(count: int = 6) -> list[Example]:
    dice = random.Random(0)
    out = []
    for i in range(count):
        words = tuple(dice.randrange(3, 250) for _ in range(dice.randrange(2, 12)))
        # Slots behind, in the middle, and none.
        ids = {0: (*words, *SLOTS), 1: (*words[:2], *SLOTS[:2], *words[2:], -3), 2: words}[i % 3]
        out.append(Example(str(i), ids, (dice.randrange(3, 250), 2), i % 2, "ab"[i % 2]))
    return out


def trial(model: Any, objective: Objective, rate: float = 2e-2) -> Trial:
    settings = TrainSettings(per_device_train_batch_size=3, num_train_epochs=2, early_stopping_patience=0)
    start = Start(model, "g", (7, 9), classes=2 if isinstance(objective, Classify) else 0, slots=(11, None, 12))
    writer = make_writer(make("slots"), start)
    return Trial(model, writer, objective, rows(), settings, rate, lambda value: Score(0.0, 0.0))


def reused(one: Trial, room: int = 2**30) -> Trial:
    found = prepare_reuse(one.model, one.writer.write(), one.objective, one.rows, TensorCache(room))
    assert found.past is not None
    return found.give(one)


def same(got: Trial, expected: Trial) -> None:
    for name, tensor in expected.current().tensors().items():
        assert torch.allclose(got.current().tensors()[name], tensor, atol=1e-5 * max(1.0, float(tensor.abs().max())))
    assert [s.loss for s in got.progress.steps] == pytest.approx([s.loss for s in expected.progress.steps], abs=1e-5)


@pytest.mark.parametrize("family", EXACT)
def test_training_behind_what_is_kept_is_training(family: str) -> None:
    model = tiny(family)
    for objective in (WORDS, Complete(0), Classify("last", 0)):
        alone, behind = trial(model, objective), reused(trial(model, objective))
        list(alone.run(2))
        list(behind.run(2))
        same(behind, alone)


def test_only_what_follows_is_computed() -> None:
    model = tiny("llama")
    one = reused(trial(model, WORDS))
    list(one.run(1))  # the first step asks the model what it can do with rows of its own
    read: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda module, args, out: read.append(args[0].numel()))
    list(one.run(2))
    extra = 1  # of a choice of two tokens
    whole = [(*WORDS.lead, *one.rows[i].input_ids) for batch in one.batches(1) for i in batch]
    assert sum(read) == sum(len(ids) - begins(ids) + extra for ids in whole)


def test_side_by_side_and_with_little_room() -> None:
    model = tiny("llama")
    rates = (1e-2, 2e-2)  # AdamW turns the rounding of a gradient near 0 into a share of the rate
    alone = [trial(model, WORDS, rate) for rate in rates]
    together = [reused(trial(model, WORDS, rate), 3000) for rate in rates]
    assert together[0].past is not None
    assert 0 < len(together[0].past.store) < 4
    train_all(together)
    for one, other in zip(together, alone, strict=True):
        list(other.run())
        same(one, other)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(EXACT)))
def test_models_in_which_words_see_what_follows_keep_nothing(family: str) -> None:
    model = tiny(family)
    assert not has_past(model, make_writer(make("slots"), Start(model, slots=(11,))).write())


def test_what_has_no_past() -> None:
    model = tiny("llama")
    assert not has_past(model, make_writer(make("prefix"), Start(model, "g", (5, 6))).write())
    value = make_writer(make("slots"), Start(model, slots=(11,))).write()
    assert prepare_reuse(model, value, Classify("mean", 0), rows(), TensorCache(2**30)).past is None
    assert prepare_reuse(model, value, WORDS, [rows()[2]], TensorCache(2**30)).past is None
    assert begins((5, 6, -1, 7)) == 2
    assert begins((-1, 5)) == begins((5, 6)) == 0
