"""Other people's recurrent models as bases: textgenrnn's character LSTM, from Keras's HDF5 weights.

HDF5 is read by h5py, an extra: ``pip install foreword[textgenrnn]``. Its C library is not made for hostile files, so it
is given the one file whose digest :func:`foreword.samples.textgenrnn` has checked, and never a user's.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from foreword.core.base.lstm import RecurrentConfig, RecurrentForCausalLM
from foreword.errors import FileFormatError, SettingsError
from foreword.messages import Message

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
        SettingsError: h5py is not installed.
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


def arrays(content: bytes, where: str) -> dict[str, Weights]:
    """Every dataset of an HDF5 file by its path (``rnn_1/kernel:0``), as float32.

    Raises:
        FileFormatError: it is no HDF5 file, or a damaged one.
        SettingsError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise SettingsError(
            "h5py, which reads Keras's weights, is not installed",
            where=where,
            hint="pip install 'foreword[textgenrnn]'",
        ) from None
    found: dict[str, Weights] = {}

    def keep(name: str, part: object) -> None:
        if isinstance(part, h5py.Dataset):
            found[name] = np.asarray(part[()], np.float32)

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems(keep)
    except (OSError, RuntimeError, ValueError) as error:
        raise FileFormatError(Message("an HDF5 file that cannot be read: {error}", error=error), where=where) from error
    return found


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
