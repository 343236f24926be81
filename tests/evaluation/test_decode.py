"""Decoding: the answer ends where it should, padding and batches change nothing, and settings are the task's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import EMPTY, Foreword
from foreword.core.passes.scoring import completion_losses
from foreword.data.task.task import Decoding
from foreword.errors import SettingsError
from foreword.evaluation.generate import _until, decode, text_of
from foreword.evaluation.token_sampling import RowSampler
from foreword.testing.method_contracts import byte_tokenizer, sample_ids, tiny, writer_for

TOKENIZER = byte_tokenizer()
LENGTHS = (9, 3, 6)


def rows() -> list[list[int]]:
    return [row[:n] for row, n in zip(sample_ids(3, 9).tolist(), LENGTHS, strict=True)]


def greedy(model: Any, row: list[int], count: int, value: Foreword, end: int | None) -> list[int]:
    """One token after the other, the whole row read again each time."""
    both, made = bool(model.config.is_encoder_decoder), []  # type: ignore[var-annotated]
    with torch.no_grad(), injected(model, [value]):
        for _ in range(count):
            if both:
                begin = model.config.decoder_start_token_id
                out = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[begin, *made]]))
            else:
                out = model(input_ids=torch.tensor([[*row, *made]]), use_cache=False)
            token = int(out.logits[0, -1].argmax())
            if token == end:
                break
            made.append(token)
    return made


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3", "qwen3_next", "t5", "bart"])
@pytest.mark.parametrize("behind", [False, True], ids=["alone", "foreword"])
def test_rows_in_a_batch_are_decoded_as_alone(family: str, behind: bool) -> None:
    model = tiny(family)
    value = writer_for("prefix", model).write().detach() if behind else EMPTY
    # The recurrent layers of a hybrid read padding too, in the base itself.
    inputs = rows() if family != "qwen3_next" else [row[:3] for row in rows()]
    got = decode(model, TOKENIZER, inputs, value, Decoding(max_new_tokens=6), None)
    assert got == [greedy(model, row, 6, value, None) for row in inputs]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_end_ends_an_answer_and_is_not_part_of_it(family: str) -> None:
    """A token of the first row's answer is made the end: every row stops before its first one."""
    model = tiny(family)
    free = decode(model, TOKENIZER, rows(), EMPTY, Decoding(max_new_tokens=8), None)
    end = next(t for i, t in enumerate(free[0]) if i and t not in free[0][:i])
    got = decode(model, TOKENIZER, rows(), EMPTY, Decoding(max_new_tokens=8), end)
    assert got == [greedy(model, row, 8, EMPTY, end) for row in rows()]
    assert not any(end in ids for ids in got)
    assert len(got[0]) == free[0].index(end)


def test_until() -> None:
    assert _until([5, 6, 2, 0, 0], 2, 0) == [5, 6]
    assert _until([2, 0], 2, 0) == []
    assert _until([5, 0, 6, 2, 2], 2, 0) == [5, 0, 6]
    assert _until([5, 0, 0], None, 0) == [5]
    assert _until([5, 6], 2, 2) == [5, 6]
    assert _until([5, 2, 2], 2, 2) == [5]  # the padding is the end where a tokenizer has none of its own


def test_stop_texts_end_a_row() -> None:
    model = tiny("llama")
    free = decode(model, TOKENIZER, rows(), EMPTY, Decoding(max_new_tokens=12), None)
    texts = [TOKENIZER.decode(ids) for ids in free]
    stop = TOKENIZER.decode(free[0][4:6])
    got = decode(model, TOKENIZER, rows(), EMPTY, Decoding(max_new_tokens=12, stop=(stop,)), None)  # type: ignore[arg-type]
    cut = [text_of(TOKENIZER, ids, (stop,)) for ids in got]  # type: ignore[arg-type]
    # Random bytes often end in half a character, which is no part of an answer.
    assert cut == [text.rstrip("\ufffd").partition(stop)[0].strip() for text in texts]  # type: ignore[arg-type]
    assert len(got[0]) <= len(free[0])


def test_text_of_cuts_at_the_first_stop_and_strips() -> None:
    ids = TOKENIZER(" one two\n###\nmore", add_special_tokens=False)["input_ids"]
    assert text_of(TOKENIZER, ids, ()) == "one two\n###\nmore"
    assert text_of(TOKENIZER, ids, ("###",)) == "one two"
    assert text_of(TOKENIZER, ids, ("###", "two")) == "one"
    assert text_of(TOKENIZER, [], ("###",)) == ""


@pytest.mark.parametrize("family", ["llama", "bart"])
def test_what_a_checkpoint_likes_to_decode_with_does_not_count(family: str) -> None:
    """Instruct models bring repetition penalties and beams along; a file's task says how its answers are made."""
    plain, liking = tiny(family), tiny(family)
    liking.generation_config.repetition_penalty = 5.0
    liking.generation_config.no_repeat_ngram_size = 1
    liking.generation_config.min_length = 40
    liking.generation_config.length_penalty = 2.0
    liking.generation_config.suppress_tokens = list(range(100, 200))
    for decoding in (Decoding(max_new_tokens=8), Decoding(max_new_tokens=8, num_beams=2)):
        wanted = decode(plain, TOKENIZER, rows(), EMPTY, decoding, 2)
        assert decode(liking, TOKENIZER, rows(), EMPTY, decoding, 2) == wanted


def test_sampling_follows_the_task_and_the_seed() -> None:
    model = tiny("llama")
    model.generation_config.top_k = 1
    model.generation_config.min_p = 0.99
    hot = Decoding(max_new_tokens=6, do_sample=True, temperature=50.0)
    first = decode(model, TOKENIZER, rows(), EMPTY, hot, None)
    assert decode(model, TOKENIZER, rows(), EMPTY, hot, None) == first
    assert decode(model, TOKENIZER, rows(), EMPTY, replace(hot, sampling_seed=14), None) != first
    assert [decode(model, TOKENIZER, [row], EMPTY, hot, None)[0] for row in rows()] == first
    twice = decode(model, TOKENIZER, [rows()[0]] * 2, EMPTY, hot, None)
    assert twice[0] == first[0] != twice[1]
    cold = Decoding(max_new_tokens=6, do_sample=True, temperature=1e-4)
    model.generation_config.top_k = model.generation_config.min_p = None
    assert decode(model, TOKENIZER, rows(), EMPTY, cold, None) == [greedy(model, r, 6, EMPTY, None) for r in rows()]
    assert first != decode(model, TOKENIZER, rows(), EMPTY, cold, None)


def test_draws_have_the_shares_of_the_softmax() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(4000, 1)
    rows_of_ids = [[number] for number in range(4000)]

    def shares(**settings: Any) -> list[float]:
        sampler = RowSampler(Decoding(do_sample=True, **settings), rows_of_ids)
        drawn = sampler(torch.zeros(4000, 1, dtype=torch.long), logits.clone()).argmax(-1)  # type: ignore[arg-type]
        return [round(float(share), 2) for share in torch.bincount(drawn, minlength=4) / 4000]

    def close(got: list[float], logits: list[float]) -> bool:
        wanted = torch.tensor(logits, dtype=torch.float32).softmax(-1)
        return bool((torch.tensor(got) - wanted).abs().max() < 0.03)

    low = float("-inf")
    assert close(shares(), [2, 1, 0, -1])
    assert close(shares(temperature=0.5), [4, 2, 0, -2])
    assert close(shares(top_k=2), [2, 1, low, low])
    assert close(shares(top_p=0.7), [2, 1, low, low])


def test_penalties_and_least_lengths() -> None:
    model = tiny("llama")
    plain = Decoding(max_new_tokens=12)
    free = decode(model, TOKENIZER, rows(), EMPTY, plain, None)
    end = free[0][2]
    assert len(decode(model, TOKENIZER, rows(), EMPTY, plain, end)[0]) == free[0].index(end)
    long = decode(model, TOKENIZER, rows(), EMPTY, replace(plain, min_new_tokens=6), end)
    assert all(len(ids) >= 6 for ids in long)
    for once in (
        Decoding(max_new_tokens=12, no_repeat_ngram_size=1),
        Decoding(max_new_tokens=12, repetition_penalty=1e6),
    ):
        written = decode(model, TOKENIZER, rows(), EMPTY, once, None)
        assert all(len(set(ids)) == len(ids) for ids in written)


@pytest.mark.parametrize(
    "settings", [{"num_beams": 2, "do_sample": True}, {"min_new_tokens": 65}, {"top_k": -1}, {"repetition_penalty": 0}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="decoding"):
        Decoding(**settings)


def test_beams_are_at_least_as_likely_as_greedy() -> None:
    model, row = tiny("llama"), rows()[:1]

    def likelihood(made: list[int]) -> float:
        ids = torch.tensor([[*row[0], *made]])
        with torch.no_grad():
            logp = model(input_ids=ids).logits[0].log_softmax(-1)
        return sum(float(logp[len(row[0]) - 1 + i, token]) for i, token in enumerate(made))

    value = writer_for("prefix", model).write().detach()
    one, four = (
        decode(model, TOKENIZER, row, EMPTY, Decoding(max_new_tokens=5, num_beams=beams), None)[0] for beams in (1, 4)
    )
    assert likelihood(four) >= likelihood(one) - 1e-5
    several = decode(model, TOKENIZER, rows(), value, Decoding(max_new_tokens=5, num_beams=3), None)
    alone = [decode(model, TOKENIZER, [r], value, Decoding(max_new_tokens=5, num_beams=3), None)[0] for r in rows()]
    assert several == alone


def test_a_token_that_is_forced_first_is_not_part_of_the_answer() -> None:
    """BART checkpoints force their start-of-text token at the first place."""
    model = tiny("bart")
    model.generation_config.forced_bos_token_id = 1
    for decoding in (Decoding(max_new_tokens=5), Decoding(max_new_tokens=5, num_beams=2)):
        got = decode(model, TOKENIZER, rows(), EMPTY, decoding, None)
        for row, ids in zip(rows(), got, strict=True):
            made = model.generate(  # type: ignore[operator]
                input_ids=torch.tensor([row]), max_new_tokens=6, do_sample=False, num_beams=decoding.num_beams,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            assert made[0, 1:].tolist() == [1, *ids]


def test_teacher_forcing_has_the_forced_token_in_front_too() -> None:
    model = tiny("bart")
    model.generation_config.forced_bos_token_id = 1
    row, answer = rows()[0], [9, 8, 7]
    with torch.no_grad():
        losses, owners = completion_losses(model, [row, row], [answer, answer[:2]], 0)
        begin = torch.tensor([[model.config.decoder_start_token_id, 1, *answer[:-1]]])
        logits = model(input_ids=torch.tensor([row]), decoder_input_ids=begin).logits[0, 1:]
    wanted = -logits.log_softmax(-1)[range(3), answer]
    assert torch.allclose(losses, torch.cat([wanted, wanted[:2]]), atol=1e-4)
    assert owners.tolist() == [0, 0, 0, 1, 1]
