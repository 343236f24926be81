"""Low-rank changes stand beside layers that give W x + b for each row's own tokens, and beside no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers
from foreword.errors import SettingsError
from foreword.methods.base import Start, make, make_writer
from foreword.testing import sample_ids, tiny, trained_for, writer_for
from foreword.testing.method_contracts import output
from tests.core.test_sites_by_probe import SIZE, SPECIAL, random_model


def test_a_router_that_is_a_linear_layer_by_name_only_is_left_alone() -> None:
    model = random_model(
        "PhimoeForCausalLM", "PhimoeConfig", **SIZE, **SPECIAL, num_key_value_heads=2, num_local_experts=4
    )
    assert linear_layers(model)
    assert not any("router" in name or "gate" in name for name in linear_layers(model))
    with torch.no_grad(), injected(model, [writer_for("lora", model).write()]):
        output(model, sample_ids(2, 9))


def test_rows_share_a_batch_where_experts_are_linear_layers() -> None:
    experts = {"num_experts": 4, "expert_capacity": 64, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    sizes = {"vocab_size": 264, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_decoder_layers": 2}
    others = {"num_heads": 4, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}
    model = random_model(
        "SwitchTransformersForConditionalGeneration", "SwitchTransformersConfig", **sizes, **experts, **others
    )
    assert not any("expert" in name for name in linear_layers(model))
    values = [trained_for("lora", model, (7, 8, 9), seed) for seed in (1, 2)]
    for seed in range(5):
        ids = sample_ids(2, 6, seed)
        with torch.no_grad():
            alone = []
            for row, value in enumerate(values):
                with injected(model, [value]):
                    alone.append(output(model, ids[row : row + 1]))
            with injected(model, values, [0, 1]):
                assert torch.allclose(output(model, ids), torch.cat(alone), atol=1e-3)


class _Clamped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(-0.01, 0.01)


def test_a_layer_that_gives_something_else_than_its_product_cannot_be_changed() -> None:
    model: Any = tiny("llama")
    old = model.model.layers[1].mlp.down_proj
    model.model.layers[1].mlp.down_proj = changed = _Clamped(old.in_features, old.out_features, bias=False)
    changed.weight = old.weight
    assert len(linear_layers(model)) == 20
    with pytest.raises(SettingsError, match="no linear layer"):
        make_writer(make("lora", {"target_modules": "model.layers.1.mlp.down_proj"}), Start(model, "g"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_layer_in_another_number_format_than_its_model_starts_at_the_base(method: str) -> None:
    model: Any = tiny("t5").half()
    for stack in (model.encoder, model.decoder):
        for block in stack.block:
            block.layer[-1].DenseReluDense.wo.float()  # as transformers loads T5 in float16
    ids = sample_ids(2, 9)
    with torch.no_grad():
        plain = output(model, ids)
        with injected(model, [writer_for(method, model).write()]):
            assert torch.equal(output(model, ids), plain)
