"""LSTM and GRU bases: padding never passes through a state, and what a text leaves behind is that text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.base.load import load_base
from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM
from foreword.core.inject.initial_values import from_ids, random
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.export.peft import export_peft
from foreword.methods.base import Start, make, make_writer
from foreword.testing.method_contracts import TEXT, byte_tokenizer, output, sample_ids, tiny

CELLS = ("lstm", "gru")


def pooled() -> PreTrainedModel:
    """textgenrnn's shape: two layers, a running average over everything, an output layer of its own."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        264, recurrent_size=12, embedding_size=8, hidden_size=32, pooled=True, tie_word_embeddings=False
    )
    return RecurrentForCausalLM(config).eval().requires_grad_(False)


def base(kind: str) -> PreTrainedModel:
    return pooled() if kind == "pooled" else tiny(kind)


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", [*CELLS, "pooled"])
@torch.no_grad()
def test_padding_changes_neither_outputs_nor_states(kind: str, side: str) -> None:
    model, ids, lengths = base(kind), sample_ids(3, 7), (7, 3, 5)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, slice(0, length) if side == "right" else slice(7 - length, 7)] = 1
    together = model(ids * mask, attention_mask=mask)
    for row in range(3):
        own = ids[row][mask[row].bool()][None]
        alone = model(own)
        close(together.logits[row][mask[row].bool()], alone.logits[0])
        for got, expected in zip(together.past_key_values.states, alone.past_key_values.states, strict=True):
            close(got[0][row], expected[0][0])
            close(got[1][row], expected[1][0])


@pytest.mark.parametrize("kind", [*CELLS, "pooled"])
@torch.no_grad()
def test_a_text_read_in_two_parts_is_the_text(kind: str) -> None:
    model, ids = base(kind), sample_ids(2, 9)
    first = model(ids[:, :4])
    # The second row has nothing in the middle part: its state waits.
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    middle = model(ids[:, 4:6], attention_mask=mask, past_key_values=first.past_key_values)
    last = model(ids[:, 6:], past_key_values=middle.past_key_values)
    close(last.logits[0], model(ids[:1]).logits[0, 6:])
    close(last.logits[1], model(torch.cat([ids[1:, :4], ids[1:, 6:]], 1)).logits[0, 4:])
    assert last.past_key_values.get_seq_length() == 9


@pytest.mark.parametrize("kind", [*CELLS, "pooled"])
@torch.no_grad()
def test_the_state_behind_a_text_is_that_text(kind: str) -> None:
    model, ids = base(kind), sample_ids(2, 6)
    value = Foreword(sites=from_ids(model, TEXT))
    assert value.num_virtual_tokens == 1
    expected = output(model, torch.cat([torch.tensor([TEXT] * 2), ids], 1))[:, len(TEXT) :]
    with injected(model, [value], [0, None]):
        got = output(model, ids)
    close(got[0], expected[0])
    close(got[1], output(model, ids)[1])


@pytest.mark.parametrize("kind", CELLS)
@torch.no_grad()
def test_beams_carry_their_states_along(kind: str) -> None:
    model, ids = tiny(kind), sample_ids(2, 5)
    value = Foreword(sites=from_ids(model, TEXT))
    text = torch.cat([torch.tensor([TEXT] * 2), ids], 1)
    options = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    written = model.generate(text, attention_mask=torch.ones_like(text), **options)  # type: ignore[operator]
    with injected(model, [value]):
        behind = model.generate(ids, attention_mask=torch.ones_like(ids), **options)  # type: ignore[operator]
        slow = model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), use_cache=False, **options
        )
    assert behind[:, 5:].tolist() == written[:, 5 + len(TEXT) :].tolist() == slow[:, 5:].tolist()


def test_a_state_is_one_virtual_token() -> None:
    model = tiny("lstm")
    sites = find_sites(model).sites
    assert [site.kind for site in sites.values()] == ["state", "state"]
    two = Foreword(sites=random(sites, 2, 0.1, torch.Generator().manual_seed(0)))
    with pytest.raises(SettingsError, match="a state"), injected(model, [two]):
        pass
    with pytest.raises(SettingsError, match="one state in front"):
        make_writer(make("prefix", {"num_virtual_tokens": 5}), Start(model, "g", TEXT))
    for init in ("text", "random"):
        writer = make_writer(make("prefix", {"init": init, "num_virtual_tokens": 1}), Start(model, "g", TEXT))
        assert writer.write().num_virtual_tokens == 1
        assert sum(p.numel() for p in writer.parameters()) == 2 * 2 * 32


def test_it_is_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    model, ids = pooled(), sample_ids()
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    loaded = load_base(tmp_path)
    assert (loaded.kind, loaded.hidden_size, loaded.context) == ("decoder", 32, None)
    with torch.no_grad():
        assert torch.equal(output(loaded.model, ids), output(model, ids))


def test_peft_does_not_know_a_state(tmp_path: Path) -> None:
    model = tiny("gru")
    value = Foreword(sites=from_ids(model, TEXT))
    with pytest.raises(SettingsError, match="state"):
        export_peft(value, None, tmp_path / "out", model)


def test_a_width_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="24 wide"):
        RecurrentForCausalLM(RecurrentConfig(264, hidden_size=32, recurrent_size=24))


def test_the_loss_is_that_of_the_next_token() -> None:
    model, ids = tiny("lstm"), sample_ids(2, 6)
    with torch.no_grad():
        found = model(ids, labels=ids)
    expected = -found.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    close(found.loss, expected)


def windowed() -> PreTrainedModel:
    """textgenrnn's way of reading: each token from the last five, behind padding at the start."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        264, recurrent_size=12, embedding_size=8, hidden_size=32, pooled=True, window=5, tie_word_embeddings=False,
        pad_token_id=0,
    )  # fmt: skip
    model: PreTrainedModel = RecurrentForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def test_a_window_sees_its_tokens_and_no_others() -> None:
    model, whole = windowed(), pooled()
    whole.load_state_dict(model.state_dict())
    ids = sample_ids(2, 9)
    got = model(ids).logits
    padded = torch.cat([torch.zeros(2, 4, dtype=torch.long), ids], 1)
    for place in range(9):
        close(got[:, place], whole(padded[:, place : place + 5]).logits[:, -1])
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    close(model(ids, attention_mask=mask).logits[1, 3:], model(ids[1:, 3:]).logits[0])


def test_a_windowed_model_generates_and_takes_a_state() -> None:
    model, ids = windowed(), sample_ids(2, 4)
    value = Foreword(sites=from_ids(model, TEXT))
    writer = make_writer(make("prefix"), Start(model, "g", TEXT))
    for forewords in ([], [value]):
        with torch.no_grad(), injected(model, forewords):
            made = model.generate(  # type: ignore[operator]
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None,
                pad_token_id=0, num_beams=2,
            )  # fmt: skip
            again = model.generate(  # type: ignore[operator]
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None,
                pad_token_id=0, num_beams=2, use_cache=False,
            )  # fmt: skip
        assert made.tolist() == again.tolist()
    with injected(model, [writer.write()], [0, None]):
        logits = output(model, ids)
    logits[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in writer.parameters())
    with torch.no_grad():
        close(logits[1], output(model, ids)[1])


@pytest.mark.parametrize("family", ["lstm", "gru"])
def test_the_loss_of_parts_of_a_batch_sums_to_the_loss_of_the_whole(family: str) -> None:
    model, ids = tiny(family), sample_ids(8, 7)
    with torch.no_grad():
        whole = model(input_ids=ids, labels=ids).loss
        parts = [model(input_ids=part, labels=part, num_items_in_batch=8 * 6).loss for part in ids.split(2)]
    assert torch.allclose(sum(parts), whole, atol=1e-5)
