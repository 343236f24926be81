"""What is sent of an answer while it is written: whole characters, no stop text, nothing taken back."""

from __future__ import annotations

import pytest

from foreword.evaluation.generate import text_of
from foreword.serve.engine.text_stream import TextStream
from foreword.testing import byte_tokenizer

TOKENIZER = byte_tokenizer()


def pieces(text: str, stop: tuple[str, ...] = (), strip: bool = False) -> list[str]:
    stream = TextStream(TOKENIZER, stop, strip)
    sent = []
    for token in TOKENIZER(text)["input_ids"]:
        sent.append(stream.push(token))
        if stream.stopped:
            break
    return [*sent, stream.end()]


@pytest.mark.parametrize("text", ["plain words", "Grüße, 你好 😀", "  spaces around \n", ""])
@pytest.mark.parametrize("stop", [(), ("\n",), ("ords", "x"), ("aro", "around b")])
def test_the_pieces_are_the_answer(text: str, stop: tuple[str, ...]) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert "".join(pieces(text, stop, strip=True)) == text_of(TOKENIZER, ids, stop)


def test_no_piece_holds_half_a_character() -> None:
    assert "\ufffd" not in "".join(pieces("é你😀"))
    assert pieces("é")[:2] == ["", "é"]


def test_the_beginning_of_a_stop_text_is_held_back_and_comes_when_it_was_none() -> None:
    assert pieces("a##b", ("###",)) == ["a", "", "", "##b", ""]
    assert pieces("a###", ("###",)) == ["a", "", "", "", ""]


def test_half_a_character_at_the_end_is_left_out() -> None:
    stream = TextStream(TOKENIZER)
    for token in TOKENIZER("a你")["input_ids"][:-1]:
        stream.push(token)
    assert stream.end() == ""
    assert stream.text == "a"
