"""What makes a base model that very model: four digests that survive a save, a reload and another number format.

A foreword's keys and values mean something only to the model they were learned on. A file of the same shape from
another training run would load and answer nonsense, so the file keeps these four and loading compares them.

config         the settings that change what the model computes (:data:`CONFIG_KEYS`), not names, versions or defaults
               that one release of transformers writes and the next does not
tokenizer      the vocabulary, the special tokens, and the ids of a few probe texts
chat_template  the template's text, "none" when there is none
weights        every parameter's name and shape, and its stored values rounded to bfloat16: all values of a model up to
               500 million, else 65,536 evenly spaced ones of each parameter. Loading in float32 or bfloat16 leaves
               them as they are; of a base that is loaded in float16, the stored weights are read for it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

FULL_LIMIT = 500_000_000
"""Models with at most this many values are hashed whole."""

SAMPLED = 65_536
"""Values per parameter, evenly spaced, that are hashed of a larger model."""

CONFIG_KEYS = (
    "activation_function attention_bias attention_dropout_prob attention_multiplier attn_logit_softcapping cell d_ff "
    "d_kv dense_act_fn embedding_multiplier embedding_size feed_forward_proj ffn_dim final_logit_softcapping "
    "global_attn_every_n_layers head_dim hidden_act hidden_activation hidden_size intermediate_size is_decoder "
    "is_encoder_decoder kv_lora_rank layer_norm_eps layer_norm_epsilon local_attention logits_scaling "
    "max_position_embeddings max_window_layers mlp_bias model_type norm_eps num_attention_heads num_experts "
    "num_experts_per_tok num_hidden_layers num_key_value_heads pooled position_embedding_type "
    "q_lora_rank qk_nope_head_dim qk_rope_head_dim query_pre_attn_scalar recurrent_size "
    "relative_attention_max_distance relative_attention_num_buckets residual_multiplier rms_norm_eps rotary_pct "
    "scale_embedding sliding_window tie_word_embeddings type_vocab_size use_sliding_window v_head_dim vocab_size "
    "window"
).split()
"""The settings of a config that change the model's function; those a config does not have are left out."""

PROBES = (
    "The quick brown fox, 12345 jumps: don't!\n\n  7  over\tit.",
    " positive negative",
    "Grüße, 你好 мир 😀 I'll see x1y2.",
)
"""Texts whose ids are part of the tokenizer's digest: they show splitting rules that a vocabulary does not."""

# Not the padding token: it is filled in where it is missing, and never changes an answer.
_SPECIAL = ("bos", "eos", "unk", "sep", "cls", "mask")

_LABELS = {
    "config": "the model's settings (config)",
    "tokenizer": "the tokenizer",
    "chat_template": "the chat template",
    "weights": "the weights",
}


def fingerprint(
    config: Any, tokenizer: Any, parameters: Iterable[tuple[str, Tensor]], *, chat_template: object = None
) -> dict[str, str]:
    """The four digests, each 64 hexadecimal digits (``chat_template`` may be ``"none"``).

    Args:
        config: the model's ``PreTrainedConfig``.
        tokenizer: its tokenizer; None leaves the two digests that need one out.
        parameters: pairs of name and tensor of any shape, in the model's order; tied ones once.
        chat_template: the template's text, or several by name; None when there is none.
    """
    parts = {"config": _digest(_config_facts(config))}
    if tokenizer is not None:
        parts["tokenizer"] = _digest(_tokenizer_facts(tokenizer))
        parts["chat_template"] = "none" if not chat_template else _digest(chat_template)
    return {**parts, "weights": weights_digest(parameters)}


def fingerprint_differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """What differs between two fingerprints, one readable line each; empty when they are the same base.

    Args:
        a: the fingerprint that was expected, such as the one a foreword was trained on; parts that it does not have
            (a foreword saved by a trainer that knew no tokenizer) are not compared.
        b: the fingerprint that was found.
    """
    names = sorted(a, key=lambda name: (list(_LABELS) + [name]).index(name))
    return [
        f"{_LABELS.get(name, name)} differs: expected {_short(a.get(name))}, found {_short(b.get(name))}"
        for name in names
        if a.get(name) != b.get(name)
    ]


@torch.no_grad()
def weights_digest(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """The sha256 over names, shapes and values rounded to bfloat16, as said at the top of this page."""
    named = list(parameters)
    whole = sum(tensor.numel() for _, tensor in named) <= FULL_LIMIT
    digest = hashlib.sha256(b"whole" if whole else b"sampled")
    for name, tensor in named:
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().reshape(-1)
        if not whole and flat.numel() > SAMPLED:
            flat = flat[:: flat.numel() // SAMPLED][:SAMPLED]
        rounded = flat.to(torch.bfloat16).view(torch.int16).cpu().contiguous()
        digest.update(rounded.numpy().data.cast("B"))
    return digest.hexdigest()


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else digest[:12]


def _digest(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _config_facts(config: Any) -> dict[str, object]:
    # Through the text config's attributes, so that `n_embd` and `hidden_size` are one thing.
    text = config.get_text_config()
    found = {name: getattr(text, name, None) for name in CONFIG_KEYS}
    facts = {name: value for name, value in found.items() if value is not None}
    rope = getattr(text, "rope_parameters", None)
    # One release keeps the rotated share of a head beside the other settings, the next among the rotary ones.
    share = getattr(text, "partial_rotary_factor", None) or (rope or {}).get("partial_rotary_factor")
    return facts | {"rope": _rope_facts(rope), "rotated": share or 1.0}


def _rope_facts(rope: object) -> object:
    # Only what every release writes; a model with several kinds of layer has one such dictionary for each.
    if not isinstance(rope, Mapping):
        return None
    nested = {name: _rope_facts(value) for name, value in rope.items() if isinstance(value, Mapping)}
    return nested or {name: rope[name] for name in ("rope_type", "rope_theta", "factor") if name in rope}


def _tokenizer_facts(tokenizer: Any) -> dict[str, object]:
    return {
        "vocabulary": tokenizer.get_vocab(),
        "special": {name: getattr(tokenizer, f"{name}_token_id") for name in _SPECIAL},
        "probes": [list(tokenizer(text)["input_ids"]) for text in PROBES],
    }
