"""Other people's recurrent models as bases: textgenrnn's character LSTM, from Keras's HDF5 weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from foreword.core.base.hdf5 import arrays
from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM

Weights = NDArray[np.float32]
_PAD, _END = "<pad>", "<s>"


def save_textgenrnn(weights: bytes, vocabulary: bytes, folder: str | Path) -> None:
    """Write textgenrnn's model as a folder that ``load_base`` takes.

    Args:
        weights: the bytes of ``textgenrnn_weights.hdf5``; read as numbers, nothing in it is run.
        vocabulary: those of ``textgenrnn_vocab.json``: character -> id, from 1.
        folder: is there already.

    Raises:
        FileFormatError: the weights are damaged or not as they should be.
    """
    found = arrays(weights, "textgenrnn_weights.hdf5")
    characters: dict[str, int] = json.loads(vocabulary)
    config = RecurrentConfig(
        len(characters) + 1,
        recurrent_size=128,
        embedding_size=100,
        hidden_size=356,
        dropout=0.0,
        pooled=True,
        window=40,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=characters[_END],
        eos_token_id=characters[_END],
    )
    model = RecurrentForCausalLM(config)
    state = {
        "model.embed_tokens.weight": _tensor(found["embedding/embedding/embeddings:0"]),
        "model.average.score.weight": _tensor(found["attention/attention/attention_W:0"].T),
        "lm_head.weight": _tensor(found["output/output/kernel:0"].T),
        "lm_head.bias": _tensor(found["output/output/bias:0"]),
    }
    for number in (1, 2):
        own = f"rnn_{number}/rnn_{number}"
        parts = {
            "weight_ih_l0": np.hstack([_input(gate) for gate in np.hsplit(found[f"{own}/kernel:0"], 4)]).T,
            "weight_hh_l0": np.hstack([gate.T for gate in np.hsplit(found[f"{own}/recurrent_kernel:0"], 4)]).T,
            "bias_ih_l0": found[f"{own}/bias:0"][:512],
            "bias_hh_l0": found[f"{own}/bias:0"][512:],
        }
        state |= {f"model.layers.{number - 1}.rnn.{name}": _tensor(value) for name, value in parts.items()}
    model.load_state_dict(state)
    model.save_pretrained(folder)
    _tokenizer(characters).save_pretrained(folder)


def _tensor(value: Weights) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))


def _input(gate: Weights) -> Weights:
    """cuDNN keeps a gate's input weights transposed in memory, under the shape that they would have otherwise."""
    return gate.T.reshape(gate.shape, order="F")


def _tokenizer(characters: dict[str, int]) -> PreTrainedTokenizerFast:
    """One token a character; characters that it does not know are the padding token, as in the package."""
    made = Tokenizer(models.BPE(vocab={_PAD: 0, **characters}, merges=[], unk_token=_PAD))
    made.add_special_tokens([AddedToken(_PAD, special=True), AddedToken(_END, special=True)])
    made.decoder = decoders.Fuse()
    made.post_processor = processors.TemplateProcessing(
        single=f"{_END} $A", pair=f"{_END} $A $B", special_tokens=[(_END, characters[_END])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=_PAD, bos_token=_END, eos_token=_END)
