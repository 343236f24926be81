"""A tokenizer made from the data: byte-level BPE, or one token a character. No text is unknown to either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
_SPECIAL = (PAD, BEGIN, END)
# Below this a byte-level vocabulary has no room for a merge, nor a character one for a character.
SMALLEST = len(_SPECIAL) + 256


def make_tokenizer(texts: Sequence[str], kind: Literal["bpe", "char"], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer for ``texts`` with at most ``size`` tokens; the same texts give the same tokenizer.

    Args:
        texts: what the base will be trained on.
        kind: byte-level BPE (words and parts of words), or characters, of which those that are too rare for the
            vocabulary, or not in the texts, are written as bytes.
        size: V; at least :data:`SMALLEST`.
    """
    made = _pieces(texts, size) if kind == "bpe" else _characters(texts, size)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=PAD, bos_token=BEGIN, eos_token=END)


def _pieces(texts: Sequence[str], size: int) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def _characters(texts: Sequence[str], size: int) -> Tokenizer:
    counts = Counter(character for text in texts for character in text)
    common = sorted(counts, key=lambda character: (-counts[character], character))[: size - SMALLEST]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(common)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return made
