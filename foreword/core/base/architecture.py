"""Which kind of text model a config describes: a decoder, an encoder, or an encoder-decoder."""

from __future__ import annotations

from typing import Any, Literal

from foreword.errors import UnsupportedBaseError
from foreword.messages import Message

RECURRENT = "foreword_recurrent"
"""The model type of our own LSTM and GRU, which transformers does not have (:mod:`foreword.core.base.lstm`)."""

Kind = Literal["decoder", "encoder", "encoder-decoder"]
"""Reads left to right and writes; reads both ways; reads with one stack and writes with the other."""


def kind_of(config: Any) -> Kind:
    """Which kind of text model a config describes.

    Raises:
        UnsupportedBaseError: it describes no text model.
    """
    from transformers.models.auto import modeling_auto as auto

    if config.model_type == RECURRENT:
        return "decoder"
    kinds: dict[str, Any] = {
        "encoder-decoder": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "decoder": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "encoder": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    }
    family = config.model_type
    senses = [name for name in ("vision_config", "audio_config") if getattr(config, name, None) is not None]
    if not senses and config.is_encoder_decoder and family in kinds["encoder-decoder"]:
        return "encoder-decoder"
    if not senses and not config.is_encoder_decoder:
        # Encoders such as BERT can be made decoders, so that their family is in both tables.
        if family in kinds["encoder"] and not getattr(config, "is_decoder", False):
            return "encoder"
        if family in kinds["decoder"]:
            return "decoder"
    raise UnsupportedBaseError(
        Message("{family} is not a text model that foreword can put a prefix in front of", family=family),
        expected="a causal decoder, an encoder with a masked-language head, or an encoder-decoder",
        received=", ".join(config.architectures or []) or family,
        hint="choose a text model, such as a Llama, Qwen, GPT-2, BERT, RoBERTa, T5 or BART",
    )
