"""Injection beyond the contracts: which row gets what, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import (
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

from foreword.core.attention import attend
from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.fused_layers import fused
from foreword.core.attention.pass_context import within
from foreword.core.inject import initial_values
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue
from foreword.core.passes.scoring import completion_losses
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.testing.method_contracts import TEXT, output, sample_ids, tiny, trained_for, writer_for


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


@pytest.mark.parametrize("family", ["llama", "gpt2", "deepseek_v3", "bert"])
def test_without_a_mask_it_is_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on accelerators, whose fast kernels take no mask but the causal one."""
    model, ids, masks = tiny(family), sample_ids(3, 9), list[object]()
    value = of_text(family)
    with torch.no_grad(), injected(model, [value]):
        expected = output(model, ids)
    stock = attend.sdpa_attention_forward

    def watched(module: object, query: object, key: object, value: object, mask: object, **kwargs: object) -> object:
        masks.append(mask)
        return stock(module, query, key, value, mask, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(attend, "sdpa_attention_forward", watched)
    monkeypatch.setattr(attend, "fast_without_mask", lambda key: True)
    with torch.no_grad(), injected(model, [value]):
        assert torch.allclose(output(model, ids), expected, atol=1e-5)
    assert masks
    assert all(mask is None for mask in masks)


def kept_bytes(model: PreTrainedModel, rows: int, values: list[Foreword], index: list[int] | None) -> int:
    """Bytes of masks that a pass keeps for its backward pass."""
    kept = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    ids = sample_ids(rows, 32)
    with injected(model, values, index), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(input_ids=ids, use_cache=False)
    wide = [x for x in kept.values() if x.ndim == 4 and x.shape[-2] == 32 and x.shape[-1] >= 32]
    return sum(x.untyped_storage().nbytes() for x in wide)


def test_a_mask_is_made_once_a_pass_and_not_once_a_layer() -> None:
    model = tiny("llama")
    values = [trained_for("prefix", model, text) for text in (TEXT, TEXT[:2])]
    values = [Foreword.from_tensors({n: t.requires_grad_() for n, t in v.tensors().items()}) for v in values]
    width = 32 + len(TEXT)
    assert kept_bytes(model, 4, values, [0, 1, 0, 1]) == 4 * 32 * width * 4
    assert kept_bytes(model, 4, values[:1], None) == 32 * width * 4


def test_a_base_of_another_kernel_is_refused_by_name() -> None:
    model = tiny("llama")
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(UnsupportedBaseError, match="flash_attention_2") as refused:
        find_sites(model)
    assert "sdpa" in str(refused.value.hint)


def test_two_models_of_one_configuration_do_not_disturb_each_other() -> None:
    one = tiny("llama")
    other, ids = LlamaForCausalLM(one.config).eval().requires_grad_(False), sample_ids()  # type: ignore[arg-type]
    value = of_text("llama")
    with torch.no_grad(), injected(other, [value]):
        expected = output(other, ids)
    with torch.no_grad(), injected(other, [value]):
        with injected(one, [value]):
            pass
        assert torch.equal(output(other, ids), expected)
    assert one.config._attn_implementation == "sdpa"


def test_attention_that_asks_for_its_name_is_refused() -> None:
    """Sparse attention of DeepSeek-V3.2 is left out under any name but SDPA's."""
    config = DeepseekV32Config(
        vocab_size=264, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=6,
        n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16,
        first_k_dense_replace=2, index_topk=4, index_n_heads=4, index_head_dim=8,
    )  # fmt: skip
    with pytest.raises(UnsupportedBaseError, match="DeepseekV32"):
        find_sites(DeepseekV32ForCausalLM(config).eval())


def test_a_base_that_turns_positions_otherwise_in_long_rows_is_not_taken_there() -> None:
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
            "factor": 4.0}  # fmt: skip
    config = Phi3Config(
        vocab_size=264, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=48, original_max_position_embeddings=12, pad_token_id=0,
        eos_token_id=2, rope_parameters=rope,
    )  # fmt: skip
    model = Phi3ForCausalLM(config).eval().requires_grad_(False)
    prefix = Foreword(sites=initial_values.from_ids(model, TEXT))
    with torch.no_grad(), injected(model, [prefix]):
        model(input_ids=sample_ids(1, 12 - len(TEXT)))
        with pytest.raises(SettingsError, match="positions"):
            model(input_ids=sample_ids(1, 13 - len(TEXT)))


# --- a pass keeps what was in force when it began


def leaf(seed: int) -> tuple[Foreword, list[torch.Tensor]]:
    value = trained_for("prefix", tiny("llama"), TEXT, seed).tensors()
    tensors = {name: tensor.clone().requires_grad_() for name, tensor in value.items()}
    return Foreword.from_tensors(tensors), list(tensors.values())


def gradients(checkpoint: bool, behind: bool) -> list[torch.Tensor]:
    model, ids = tiny("llama"), sample_ids(2, 7)
    (a, of_a), (b, of_b) = leaf(1), leaf(2)
    with checkpointing(model, checkpoint), fused(model), injected(model) as injection:
        injection.put([a], None)
        first = output(model, ids).pow(2).mean()
        injection.put([b], None)
        loss = first + output(model, ids).pow(2).mean()
        if not behind:
            loss.backward()
    if behind:
        loss.backward()
    assert not any("forward" in vars(module) for module in model.modules())
    return [x.grad for x in (*of_a, *of_b) if x.grad is not None]


@pytest.mark.parametrize("behind", [False, True])
def test_two_values_before_one_backward_pass_also_behind_the_block(behind: bool) -> None:
    for got, expected in zip(gradients(True, behind), gradients(False, False), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


def test_scoring_a_base_for_the_first_time_disturbs_no_other_thread() -> None:
    ids = sample_ids()
    for seed in range(3):
        model, stop = tiny("llama", seed), threading.Event()
        with torch.no_grad():
            expected = model(input_ids=ids).logits

        def serve(model: PreTrainedModel = model, stop: threading.Event = stop) -> list[torch.Tensor]:
            got = []
            with torch.no_grad():
                while not stop.is_set():
                    got.append(model(input_ids=ids).logits)
            return got

        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(serve) for _ in range(3)]
            with torch.no_grad():
                completion_losses(model, [[5, 6, 7]], [[8, 9]], 0)
            stop.set()
            for future in futures:
                assert all(torch.allclose(got, expected, atol=1e-5) for got in future.result())


def test_layers_of_another_format_get_theirs(tmp_path: Path) -> None:
    """A T5 that is loaded in float16 keeps one of its layers in float32."""
    tiny("t5").half().save_pretrained(tmp_path)
    model = T5ForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float16).eval().requires_grad_(False)
    ids = sample_ids()
    with torch.no_grad():
        plain = output(model, ids)
        for method in ("full", "lora"):
            with injected(model, [writer_for(method, model).write()]):
                assert torch.equal(output(model, ids), plain)


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
