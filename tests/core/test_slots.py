"""Soft slots: vectors in the place of tokens, each row's own."""

from __future__ import annotations

import pytest
import torch

from foreword.core.inject import initial_values
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword, equal
from foreword.errors import SettingsError
from foreword.methods.base import Start, make, make_writer
from foreword.testing.method_contracts import TEXT, around, behind, output, sample_ids, tiny


def slots(family: str = "llama", count: int = 3, seed: int = 1) -> Foreword:
    size = tiny(family).get_input_embeddings().weight.shape[1]
    return Foreword(slots=torch.randn(count, size, generator=torch.Generator().manual_seed(seed)))  # type: ignore[arg-type]


def test_slots_are_a_part_of_a_foreword() -> None:
    value = slots()
    assert value.num_virtual_tokens == 0
    assert value.num_values == 3 * 32
    assert equal(Foreword.from_tensors(value.tensors()), value)
    assert value.digest() != Foreword(prompt=value.slots).digest()
    with pytest.raises(ValueError, match=r"\[S, E\]"):
        Foreword(slots=torch.zeros(3))


def test_slots_stand_beside_a_prefix() -> None:
    model, ids = tiny("llama"), sample_ids(2, 6)
    sites = initial_values.from_ids(model, TEXT)
    filled = initial_values.embeddings_of(model, [40, 41])
    both = Foreword(sites=sites, slots=filled)
    with torch.no_grad():
        expected = output(model, around(around(ids, (40, 41), "end"), TEXT, "front"))[:, len(TEXT) :]
        with injected(model, [both]):
            got = output(model, behind(both, ids, "end"))
    assert torch.allclose(got, expected, atol=1e-4)


def test_a_row_needs_a_foreword_that_fills_its_slots() -> None:
    model, ids = tiny("llama"), behind(slots(count=3), sample_ids(2, 6))
    with injected(model, [slots(count=2), slots()], [1, 0]), pytest.raises(SettingsError, match="does not fill"):
        output(model, ids)
    with injected(model, [slots()], [0, None]), pytest.raises(SettingsError, match="does not fill"):
        output(model, ids)
    wide = Foreword(slots=torch.zeros(3, 33))
    with pytest.raises(SettingsError, match="another embedding size"), injected(model, [wide]):
        pass


def test_beams_take_their_rows_slots() -> None:
    model, values = tiny("gpt2"), [slots("gpt2", 3, 1), slots("gpt2", 3, 2)]
    ids = behind(values[0], sample_ids(2, 6), "end")
    how = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(ids)
    with injected(model, values, [0, 1]):
        together = model.generate(input_ids=ids, attention_mask=mask, **how)  # type: ignore[operator]
    for row, value in enumerate(values):
        with injected(model, [value]):
            alone = model.generate(input_ids=ids[row : row + 1], attention_mask=mask[:1], **how)  # type: ignore[operator]
        assert torch.equal(together[row], alone[0])


def test_a_slot_starts_from_its_word_or_from_the_vocabulary() -> None:
    model = tiny("bert")
    start = Start(model, "say", slots=(7, None, 11))
    writer = make_writer(make("slots"), start)
    value = writer.write()
    words = initial_values.embeddings_of(model, [7, 11])
    assert value.text == "say"
    assert value.slots is not None
    assert torch.equal(value.slots[[0, 2]], words)
    table = model.get_input_embeddings().weight
    assert bool((table == value.slots[1]).all(1).any())
    again = make_writer(make("slots", {"encoder": "mlp"}), start).write()
    assert torch.allclose(again.slots, value.slots)  # type: ignore[arg-type]


def test_slots_start_from_another_foreword_of_as_many() -> None:
    model, other = tiny("llama"), slots(count=2)
    method = make("slots", {"init": "foreword"})
    got = make_writer(method, Start(model, foreword=other, slots=(None, None))).write()
    assert torch.equal(got.slots, other.slots)  # type: ignore[arg-type]
    for start in (Start(model, foreword=other, slots=(1,)), Start(model, slots=(1, 2)), Start(model)):
        with pytest.raises(SettingsError):
            make_writer(method, start)
