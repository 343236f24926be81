"""A base has learned so many positions and no more: a row that needs others, its virtual tokens counted, is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.errors import SettingsError
from foreword.testing.method_contracts import TEXT, output, sample_ids, tiny, trained_for, writer_for
from foreword.training.attach import attach

LEARNED = {
    "gpt2": 128,
    "opt": 128,
    "bert": 64,
    "roberta": 62,
    "electra": 64,
    "distilbert": 64,
    "albert": 64,
    "bart": 64,
}
P = len(TEXT)


@pytest.mark.parametrize("family", [*LEARNED, "llama", "t5", "modernbert", "gemma3"])
def test_the_positions_are_those_of_the_table(family: str) -> None:
    assert find_sites(tiny(family)).learned == LEARNED.get(family)


def answer(model: PreTrainedModel, length: int) -> torch.Tensor:
    with torch.no_grad():
        return output(model, sample_ids(1, length), None, sample_ids(1, 4))


@pytest.mark.parametrize("family", LEARNED)
def test_a_row_behind_a_soft_prompt_fills_the_table_and_no_more(family: str) -> None:
    model = tiny(family)
    with injected(model, [trained_for("prompt", model)]):
        assert answer(model, LEARNED[family] - P).isfinite().all()
        with pytest.raises(SettingsError, match="than the positions that this base has learned") as refused:
            answer(model, LEARNED[family] - P + 1)
    assert refused.value.expected == f"{LEARNED[family]} positions, the {P} virtual ones counted"
    assert refused.value.received == LEARNED[family] + 1


def test_a_prefix_moves_positions_as_a_soft_prompt_does() -> None:
    model = tiny("gpt2")
    with injected(model, [trained_for("prefix", model)]), pytest.raises(SettingsError, match="learned"):
        answer(model, 128 - P + 1)


def test_padding_takes_no_position() -> None:
    model = tiny("gpt2")
    ids, mask = sample_ids(2, 126), torch.ones(2, 126, dtype=torch.long)
    mask[:, 100:] = 0
    with torch.no_grad(), injected(model, [trained_for("prompt", model)]):
        short = output(model, ids[:, :100])
        torch.testing.assert_close(output(model, ids, mask)[:, :100], short, atol=1e-5, rtol=0)


def test_an_attached_model_and_generate_say_so_too() -> None:
    model = tiny("gpt2")
    attached = attach(model, writer_for("prompt", model))
    ids = sample_ids(1, 124)
    with pytest.raises(SettingsError, match="learned"):
        attached(input_ids=ids, labels=ids)
    with pytest.raises(SettingsError, match="learned"):
        attached.generate(input_ids=ids[:, :120], max_new_tokens=9, eos_token_id=None, pad_token_id=0)  # type: ignore[operator]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_rows_without_a_mask_do_not_see_where_a_shorter_soft_prompt_ends(family: str) -> None:
    model = tiny(family)
    values = [trained_for("prompt", model, text, seed) for text, seed in ((TEXT, 1), (TEXT[:2], 2))]
    ids, answers = sample_ids(2, 6), sample_ids(2, 4, 1)

    def out(rows: slice) -> torch.Tensor:
        given = {"input_ids": ids[rows], "decoder_input_ids": answers[rows], "use_cache": False}
        logits: torch.Tensor = model(**given).logits
        return logits

    with torch.no_grad():
        with injected(model, values, [0, 1]):
            together = out(slice(0, 2))
        for row, value in enumerate(values):
            with injected(model, [value]):
                torch.testing.assert_close(together[row : row + 1], out(slice(row, row + 1)), atol=1e-4, rtol=0)
