"""A tiny model of transformers as a GGUF of llama.cpp, in float32, for proofs on architectures of no weights here.

What llama.cpp's own converter does to these architectures and no more; there is no vocabulary, ids go in and out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from foreword.export.llamacpp_lora import ARCHITECTURES, paired
from foreword.export.llamacpp_state import interleaved


def write_gguf(model: Any, path: Path) -> Path:
    """Write ``model`` as ``path``."""
    config = model.config
    name = ARCHITECTURES[config.model_type]
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    table = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, name)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(0)
    writer.add_tokenizer_model("no_vocab")
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if config.model_type == "gemma" and "norm" in key:
            values = values + 1  # transformers adds the one when it runs, llama.cpp's converter when it writes
        kind = key.split(".")[-2]
        if paired(config) and kind in ("q_proj", "k_proj"):
            heads = config.num_attention_heads if kind == "q_proj" else config.num_key_value_heads
            rows = values.reshape(heads, head, -1)
            values = np.moveaxis(interleaved(np.moveaxis(rows, 1, 2), head), 2, 1).reshape(values.shape)
        target = table.get_name(key, try_suffixes=(".weight", ".bias"))
        assert target is not None, key
        writer.add_tensor(target, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
