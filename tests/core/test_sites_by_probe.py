"""What the model is asked on a few tokens first: state beside attention, depth, chunks, devices."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import choice_scores, completion_losses, pooled_states
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.methods.base import Start, make, make_writer
from foreword.testing import sample_ids, tiny

SIZE = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def random_model(kind: str, config: str, **settings: object) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = getattr(transformers, kind)(getattr(transformers, config)(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def falcon_h1() -> PreTrainedModel:
    """Attention and a Mamba state side by side in every layer."""
    state = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
    heads = {"num_key_value_heads": 2, "head_dim": 8, "mamba_chunk_size": 4}
    return random_model("FalconH1ForCausalLM", "FalconH1Config", **SIZE, **state, **heads)


def llama4(chunk: int) -> PreTrainedModel:
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2}
    rope = {"no_rope_layers": [1, 1], "attn_temperature_tuning": False, "attention_chunk_size": chunk}
    sizes = {**SIZE, **SPECIAL, "intermediate_size_mlp": 48, "num_key_value_heads": 2, "head_dim": 8}
    return random_model("Llama4ForCausalLM", "Llama4TextConfig", **sizes, **experts, **rope)


def test_a_state_beside_attention_in_every_layer_is_seen(falcon_h1: PreTrainedModel) -> None:
    assert find_sites(falcon_h1).recurrent
    assert len(find_sites(falcon_h1).sites) == 2


def test_no_soft_prompt_passes_a_state_beside_attention(falcon_h1: PreTrainedModel) -> None:
    value = make_writer(make("prompt"), Start(falcon_h1, "g", (7, 11, 23))).write().detach()
    with pytest.raises(UnsupportedBaseError, match="recurrent state"), injected(falcon_h1, [value]):
        pass


def test_choices_beside_a_state_are_scored_as_each_choice_alone(falcon_h1: PreTrainedModel) -> None:
    rows, choices = sample_ids(2, 9).tolist(), [[5, 6, 9], [7, 8]]
    with torch.no_grad():
        together = choice_scores(falcon_h1, rows, choices, 0)
        for column, choice in enumerate(choices):
            losses, owner = completion_losses(falcon_h1, rows, [choice, choice], 0)
            alone = torch.zeros(2).index_add(0, owner, -losses)
            assert torch.allclose(together[:, column], alone, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_not_taken_for_a_state(dtype: torch.dtype) -> None:
    assert not find_sites(tiny("llama").to(dtype)).recurrent  # type: ignore[arg-type]
    assert not find_sites(tiny("gpt_oss").to(dtype)).recurrent  # type: ignore[arg-type]
    assert find_sites(tiny("qwen3_next").to(dtype)).recurrent  # type: ignore[arg-type]


def test_behind_a_foreword_a_row_has_to_fit_into_the_first_chunk() -> None:
    model, ids = llama4(12), sample_ids(1, 6)
    text = (7, 11, 23, 31, 47)
    value = make_writer(make("prefix"), Start(model, "g", text)).write().detach()
    with torch.no_grad():
        wanted = model(input_ids=torch.cat([torch.tensor([text]), ids], 1), use_cache=False).logits[:, 5:]
        with injected(model, [value]):
            assert torch.allclose(model(input_ids=ids, use_cache=False).logits, wanted, atol=1e-5)
            with pytest.raises(SettingsError, match="attends in chunks"):
                model(input_ids=sample_ids(1, 8), use_cache=False)


def test_choices_longer_than_a_chunk_are_scored_as_each_choice_alone() -> None:
    model, row = llama4(8), sample_ids(1, 12).tolist()
    with torch.no_grad():
        together = choice_scores(model, row, [[5, 6, 9], [7]], 0)
        losses, _ = completion_losses(model, row, [[5, 6, 9]], 0)
    assert torch.allclose(together[0, 0], -losses.sum(), atol=1e-4)


_SEQ2SEQ = {
    **SPECIAL, "vocab_size": 264, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
}  # fmt: skip
_T5 = {"vocab_size": 264, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8, **SPECIAL}


@pytest.mark.parametrize(
    ("kind", "config", "settings"),
    [
        ("LongT5ForConditionalGeneration", "LongT5Config", {**_T5, "decoder_start_token_id": 0}),
        ("PegasusXForConditionalGeneration", "PegasusXConfig", {**_SEQ2SEQ, "block_size": 8, "num_global_tokens": 2}),
        ("BigBirdPegasusForConditionalGeneration", "BigBirdPegasusConfig", _SEQ2SEQ),
    ],
)  # fmt: skip
def test_an_encoder_that_is_not_reached_is_refused(kind: str, config: str, settings: dict[str, object]) -> None:
    with pytest.raises(UnsupportedBaseError, match="of its encoder"):
        find_sites(random_model(kind, config, **settings))


def test_funnel_is_refused_by_name() -> None:
    model = random_model(
        "FunnelModel", "FunnelConfig", vocab_size=264, d_model=32, n_head=4, d_head=8, d_inner=48, block_sizes=[1, 1]
    )
    with pytest.raises(UnsupportedBaseError, match="FunnelModel"):
        find_sites(model)


def test_a_family_that_sees_the_other_way_than_its_kind_is_refused() -> None:
    both_ways = random_model("BertGenerationDecoder", "BertGenerationConfig", **SIZE, **SPECIAL)
    with pytest.raises(UnsupportedBaseError, match="sees both ways"):
        find_sites(both_ways)


def test_a_base_on_several_devices_is_refused() -> None:
    model = tiny("llama")
    model.lm_head.to("meta")
    with pytest.raises(UnsupportedBaseError, match="several devices"):
        find_sites(model)


def test_an_empty_batch_says_that_it_has_no_rows() -> None:
    model, value = tiny("llama"), Foreword(prompt=torch.zeros(2, 32))
    with pytest.raises(SettingsError, match="`rows` is empty"), injected(model, [value], []):
        pass
    for ask in (
        lambda: choice_scores(model, [], [[5], [6]], 0),
        lambda: completion_losses(model, [], [], 0),
        lambda: pooled_states(model, [], "mean", 0),
    ):
        with pytest.raises(SettingsError, match="no rows"):
            ask()
