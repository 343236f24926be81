"""Tiny configurations of every family that foreword reaches, and of those that it refuses; see method_contracts.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from foreword.core.base import lstm
from foreword.core.base.device import seeded

_SIZE = {
    "vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ENCODER = {**_SIZE, "max_position_embeddings": 64}
_DECODER = {**_SIZE, "num_key_value_heads": 2, "max_position_embeddings": 128}
_HYBRID = {
    "num_hidden_layers": 2, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip
_MLA = {
    "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
    "v_head_dim": 6, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
    "first_k_dense_replace": 3, "moe_intermediate_size": 16,
}  # fmt: skip
_STATE = {
    "vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
_LEARNED = {"vocab_size": 264, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Family:
    """A tiny configuration of one architecture.

    Args:
        model: transformers' class, or ours of :mod:`foreword.core.base.lstm`.
        config: transformers' configuration class.
        settings: its arguments.
        exact_text: whether a text's keys and values in front equal the text in front (causal, every layer attends).
    """

    model: str
    config: str
    settings: dict[str, Any]
    exact_text: bool = True

    def parts(self) -> tuple[Any, Any]:
        """The classes of its configuration and its model."""
        home: Any = transformers if hasattr(transformers, self.config) else lstm
        return getattr(home, self.config), getattr(home, self.model)


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", "LlamaConfig", _DECODER),
    "gpt2": Family(
        "GPT2LMHeadModel", "GPT2Config", {**_LEARNED, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
    ),
    "opt": Family(
        "OPTForCausalLM", "OPTConfig",
        {**_ENCODER, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 128},
    ),
    "mistral": Family("MistralForCausalLM", "MistralConfig", {**_DECODER, "sliding_window": 6}),
    "gemma2": Family("Gemma2ForCausalLM", "Gemma2Config", {**_DECODER, "head_dim": 8, "sliding_window": 6}),
    "gemma3": Family(
        "Gemma3ForCausalLM", "Gemma3TextConfig",
        {**_DECODER, "head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention",
        "sliding_attention"]},
    ),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", {**_DECODER, "head_dim": 8}),
    "gpt_oss": Family(
        "GptOssForCausalLM", "GptOssConfig", {**_DECODER, "head_dim": 8, "sliding_window": 6, "num_local_experts": 3,
        "num_experts_per_tok": 2}
    ),
    "gpt_neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", {**_ENCODER, "max_position_embeddings": 128}),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", "DeepseekV3Config", {**_DECODER, **_MLA}),
    "qwen3_next": Family("Qwen3NextForCausalLM", "Qwen3NextConfig", {**_DECODER, **_HYBRID}, exact_text=False),
    "bert": Family("BertModel", "BertConfig", _ENCODER, exact_text=False),
    "roberta": Family(
        "RobertaModel", "RobertaConfig", {**_ENCODER, "pad_token_id": 1, "bos_token_id": 0}, exact_text=False
    ),
    "electra": Family("ElectraModel", "ElectraConfig", {**_ENCODER, "embedding_size": 32}, exact_text=False),
    "distilbert": Family(
        "DistilBertModel", "DistilBertConfig",
        {**_LEARNED, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 64},
        exact_text=False,
    ),
    "albert": Family("AlbertModel", "AlbertConfig", {**_ENCODER, "embedding_size": 16}, exact_text=False),
    "modernbert": Family(
        "ModernBertModel", "ModernBertConfig", {**_ENCODER, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
        exact_text=False
    ),
    "t5": Family(
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": 264, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 16,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}, exact_text=False,
    ),
    "bart": Family(
        "BartForConditionalGeneration", "BartConfig",
        {**_LEARNED, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
        "decoder_start_token_id": 2, "forced_eos_token_id": None}, exact_text=False,
    ),
    "lstm": Family("RecurrentForCausalLM", "RecurrentConfig", {**_STATE, "cell": "lstm"}),
    "gru": Family("RecurrentForCausalLM", "RecurrentConfig", {**_STATE, "cell": "gru"}),
}  # fmt: skip

# Families that the interface does not reach: refused by name.
REFUSED: dict[str, Family] = {
    "deberta_v2": Family("DebertaV2Model", "DebertaV2Config", _ENCODER),
    "mpnet": Family("MPNetModel", "MPNetConfig", _ENCODER),
    "bloom": Family("BloomForCausalLM", "BloomConfig", {**_LEARNED, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "gptj": Family(
        "GPTJForCausalLM",
        "GPTJConfig",
        {**_LEARNED, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    ),
    "falcon": Family(
        "FalconForCausalLM",
        "FalconConfig",
        {**_LEARNED, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
}


def tiny(family: str, seed: int = 0, masked: bool = False) -> PreTrainedModel:
    """A tiny random model of a family, in eval mode and frozen; ``masked``: an encoder with its language head.

    Families: the keys of ``FAMILIES``.
    """
    spec = FAMILIES.get(family) or REFUSED[family]
    spec = replace(spec, model=spec.model.replace("Model", "ForMaskedLM")) if masked else spec
    make_config, make_model = spec.parts()
    config = make_config(**spec.settings)
    with seeded(seed):
        model: PreTrainedModel = make_model(config).eval()
    # Weights as small as the default's make every logit alike; differences must be large enough to be seen.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.requires_grad_(False)
    return model
