"""Tokenizers made from data: nothing is unknown, the same texts give the same one, and offsets cut whole tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from foreword.training.from_scratch.make_tokenizer import SMALLEST, make_tokenizer

TEXTS = ["the film is good", "the film is bad", "这部电影很好", "这部电影不好"] * 3
OTHERS = ["The quick brown fox: don't!\n\n  7", "Grüße, 你好 мир 😀", "", "这 部"]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_every_text_comes_back(kind: str, tmp_path: Path) -> None:
    made = make_tokenizer(TEXTS, kind, 400)  # type: ignore[arg-type]
    made.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*TEXTS, *OTHERS):
        ids = made(text)["input_ids"]
        assert loaded(text)["input_ids"] == ids
        assert made.decode(ids) == text
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)


def test_words_of_the_data_are_tokens() -> None:
    made = make_tokenizer([f" {text}" for text in TEXTS], "bpe", 400)
    assert len(made(" film good")["input_ids"]) == 2


def test_characters_are_tokens_and_the_rare_ones_are_bytes() -> None:
    made = make_tokenizer(TEXTS, "char", SMALLEST + 6)
    assert len(made) == SMALLEST + 6
    assert len(made("的")["input_ids"]) == 3
    assert made("ffff", return_offsets_mapping=True)["offset_mapping"] == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_the_same_texts_give_the_same_tokenizer(kind: str) -> None:
    first, second = (make_tokenizer(TEXTS, kind, 300) for _ in range(2))  # type: ignore[arg-type]
    assert first.get_vocab() == second.get_vocab()
    assert len(first) <= 300
