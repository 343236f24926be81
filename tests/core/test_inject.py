"""Injection beyond the contracts: which row gets what, and what is refused."""

from __future__ import annotations

import pytest
import torch

from foreword.core.attention.pass_context import within
from foreword.core.inject import initial_values
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.testing.method_contracts import TEXT, output, sample_ids, tiny, trained_for


def of_text(family: str, ids: tuple[int, ...] = TEXT) -> Foreword:
    return Foreword(sites=initial_values.from_ids(tiny(family), ids))


def test_each_row_gets_its_own_foreword_in_the_order_given() -> None:
    model, ids = tiny("llama"), sample_ids(1).expand(4, -1)
    a, b = of_text("llama"), of_text("llama", TEXT[:2])
    with torch.no_grad():
        with injected(model, [a, b], [1, 0, None, 1]):
            got = output(model, ids)
        alone = {}
        for name, one in (("a", [a]), ("b", [b]), ("none", [])):
            with injected(model, one):
                alone[name] = output(model, ids[:1])[0]
    for row, name in enumerate(("b", "a", "none", "b")):
        assert torch.allclose(got[row], alone[name], atol=1e-5), (row, name)
    assert not torch.allclose(alone["a"], alone["b"], atol=1e-2)


def test_beams_and_several_sequences_a_row_keep_their_foreword() -> None:
    model, ids = tiny("llama"), sample_ids(2, 5)
    pair = [of_text("llama"), of_text("llama", TEXT[:2])]
    options = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad():
        with injected(model, pair, [0, 1]):
            together = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        for row, value in enumerate(pair):
            with injected(model, [value]):
                one = ids[row : row + 1]
                alone = model.generate(input_ids=one, attention_mask=torch.ones_like(one), **options)
            assert torch.equal(together[row], alone[0])


def test_the_prefix_leaves_a_sliding_window_like_the_text_would() -> None:
    model = tiny("mistral")
    assert find_sites(model).windowed == 6
    ids, text = sample_ids(2, 16), torch.tensor([TEXT] * 2)
    with torch.no_grad():
        expected = output(model, torch.cat([text, ids], 1))[:, len(TEXT) :]
        with injected(model, [of_text("mistral")]):
            got = output(model, ids)
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["mistral", "gemma3", "gpt_oss"])
def test_decoding_past_the_window_equals_the_text_in_front(family: str) -> None:
    model, ids = tiny(family), sample_ids(2, 4)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    text = torch.cat([torch.tensor([TEXT] * 2), ids], 1)
    with torch.no_grad():
        expected = model.generate(input_ids=text, attention_mask=torch.ones_like(text), **options)[:, len(TEXT) :]
        with injected(model, [of_text(family)]):
            got = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    assert torch.equal(got, expected)


def test_the_innermost_injection_wins_and_the_outer_one_comes_back() -> None:
    model, ids = tiny("llama"), sample_ids()
    with torch.no_grad(), injected(model, [of_text("llama")]):
        outer = output(model, ids)
        with injected(model, []):
            plain = output(model, ids)
        assert torch.equal(output(model, ids), outer)
    with torch.no_grad():
        assert torch.allclose(plain, output(model, ids), atol=1e-6)


def test_two_models_are_in_force_at_once() -> None:
    a, b, ids = tiny("llama"), tiny("llama", seed=1), sample_ids()
    with torch.no_grad():
        with injected(b, [of_text("llama")]):
            expected = output(b, ids)
        with injected(a, [of_text("llama")]), injected(b, [of_text("llama")]):
            assert torch.equal(output(b, ids), expected)


def test_a_prefix_on_some_layers_only_still_moves_the_content() -> None:
    model, ids = tiny("gpt2"), sample_ids()
    whole = of_text("gpt2")
    part = Foreword(sites={n: kv for n, kv in whole.sites.items() if n.endswith(".2")})
    with torch.no_grad(), injected(model, [part]):
        got = output(model, ids)
        shifted = torch.arange(len(TEXT), len(TEXT) + ids.shape[1])[None]
    with torch.no_grad(), within(sources=None):
        plain = model(ids, position_ids=shifted).logits
    assert not torch.allclose(got, plain, atol=1e-3)
    assert torch.isfinite(got).all()


@pytest.mark.parametrize(
    ("forewords", "rows"),
    [(2, None), (1, [0, 1]), (1, [-1]), (1, [0, 0])],
    ids=["several without rows", "an index too far", "a negative index", "another number of rows"],
)
def test_rows_that_do_not_fit_are_refused(forewords: int, rows: list[int | None] | None) -> None:
    model = tiny("llama")
    with pytest.raises(SettingsError), injected(model, [of_text("llama")] * forewords, rows):
        output(model, sample_ids(3))


def test_other_sites_and_shapes_are_refused() -> None:
    model = tiny("llama")
    with pytest.raises(SettingsError, match="does not have"), injected(model, [of_text("bert")]):
        pass
    wrong = {"decoder.self.0": KeyValue(torch.zeros(2, 2, 7), torch.zeros(2, 2, 8))}
    with pytest.raises(SettingsError, match="other shapes"), injected(model, [Foreword(sites=wrong)]):
        pass
    with pytest.raises(SettingsError, match="embedding size"), injected(model, [Foreword(prompt=torch.zeros(2, 31))]):
        pass


def test_a_soft_prompt_cannot_pass_a_recurrent_state() -> None:
    model = tiny("qwen3_next")
    with pytest.raises(UnsupportedBaseError, match="recurrent"), injected(model, [Foreword(prompt=torch.zeros(2, 32))]):
        pass


def test_sites_carry_the_models_own_shapes() -> None:
    mla = find_sites(tiny("deepseek_v3")).sites["decoder.self.0"]
    assert mla.key_size != mla.value_size
    hybrid = find_sites(tiny("qwen3_next"))
    assert list(hybrid.sites) == ["decoder.self.1"]
    assert hybrid.recurrent
    assert len(find_sites(tiny("albert")).sites) == 3
    assert {name.rsplit(".", 1)[0] for name in find_sites(tiny("bart")).sites} == {
        "encoder.self", "decoder.self", "decoder.cross"
    }  # fmt: skip
    assert find_sites(tiny("llama")).positions == "cache"
    assert find_sites(tiny("bert")).positions == "content"


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize(("read", "written"), [(6, 6), (6, 4), (4, 6)])
def test_cross_attention_sees_all_that_was_read_also_where_as_much_is_written(
    family: str, read: int, written: int
) -> None:
    model, ids, answers = tiny(family), sample_ids(2, read), sample_ids(2, written, 5)
    value = trained_for("prefix", model)
    with torch.no_grad():
        alone = output(model, ids[1:], None, answers[1:])
        with injected(model, [value]):
            behind = output(model, ids[:1], None, answers[:1])
        with injected(model, [value], [0, None]):
            together = output(model, ids, None, answers)
    torch.testing.assert_close(together, torch.cat([behind, alone]), atol=1e-3, rtol=1e-4)
