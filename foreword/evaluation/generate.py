"""Token ids and a foreword in, token ids out: ``generate``, unmodified, with the foreword in front of every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedModel, RepetitionPenaltyLogitsProcessor, StoppingCriteria

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import beginning, pad, refuse_empty
from foreword.data.task.task import Decoding
from foreword.data.tokens.tokenize import Tokenizer
from foreword.evaluation.token_sampling import RowSampler

# How answers are made is the task's to say. What a checkpoint brings along in its generation config (penalties, beams'
# habits, forced tokens) is no part of a foreword's file and would change answers without a word.
_PLAIN: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "min_length": 0,
    "num_return_sequences": 1,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
} | dict.fromkeys(
    "min_new_tokens min_p bad_words_ids suppress_tokens begin_suppress_tokens sequence_bias forced_bos_token_id "
    "forced_eos_token_id exponential_decay_length_penalty guidance_scale stop_strings max_time".split()
)


class _StopTexts(StoppingCriteria):
    """Ends a row once one of the texts is in what it wrote."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], start: int) -> None:
        self.tokenizer, self.texts, self.start = tokenizer, texts, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        written = [str(self.tokenizer.decode(row[self.start :].tolist())) for row in input_ids]
        done = [any(stop in text for stop in self.texts) for text in written]
        return torch.tensor(done, device=input_ids.device)


class _WordsRepeated(RepetitionPenaltyLogitsProcessor):
    """The penalty on tokens that were there, for rows with soft slots, which are no words."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        # A word that is there already counts once, however often it is named.
        words = input_ids.where(input_ids >= 0, input_ids.max(1, keepdim=True).values.clamp(min=0))
        penalised: torch.FloatTensor = super().__call__(words, scores)
        return penalised


def decode(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    inputs: Sequence[Sequence[int]],
    value: Foreword,
    decoding: Decoding,
    end: int | None,
) -> list[list[int]]:
    """Continue every row as ``decoding`` says.

    Args:
        inputs: B rows of token ids, what stands in front as tokens included.
        value: put in front of every row; a text is expected in ``inputs`` already.
        end: the token that ends an answer.

    Returns:
        The new ids of each row, without the end and what follows it.
    """
    refuse_empty(inputs)
    fill = int(tokenizer.pad_token_id or 0)
    encoder_decoder = bool(model.config.is_encoder_decoder)
    batch = pad(inputs, fill, model.device, "right" if encoder_decoder else "left")
    begin = beginning(model) if encoder_decoder else ()
    start = len(begin) or batch.ids.shape[1]
    soft = not encoder_decoder and bool((batch.ids < 0).any())
    asked = _asked(decoding, soft)
    if encoder_decoder:
        asked["decoder_input_ids"] = torch.tensor([begin] * len(inputs), device=model.device)
    with torch.no_grad(), injected(model, [value]):
        out = model.generate(  # type: ignore[operator]
            input_ids=batch.ids,
            attention_mask=batch.mask,
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
            do_sample=False,
            logits_processor=_shapers(decoding, inputs, soft),
            pad_token_id=fill,
            eos_token_id=end,
            stopping_criteria=[_StopTexts(tokenizer, decoding.stop, start)] if decoding.stop else None,
            **_PLAIN | asked,
        )
    written = [_until(row[start:].tolist(), end, fill) for row in out]
    # BART's kind begins every text with its start-of-text token, also where nothing forces it to; it is no part of the
    # answer.
    first = [tokenizer.bos_token_id] if len(begin) == 1 else None
    return [ids[1:] if ids[:1] == first else ids for ids in written]


def _asked(decoding: Decoding, soft: bool) -> dict[str, Any]:
    """What of ``decoding`` generate does by itself; ``soft``: inputs have soft slots, which are no tokens to count."""
    return {
        "repetition_penalty": 1.0 if soft else decoding.repetition_penalty,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "length_penalty": decoding.length_penalty,
        "min_new_tokens": decoding.min_new_tokens or None,
    }


def _shapers(decoding: Decoding, inputs: Sequence[Sequence[int]], soft: bool) -> list[LogitsProcessor]:
    """The rest of it."""
    shapers: list[LogitsProcessor] = []
    if soft and decoding.repetition_penalty != 1:
        shapers.append(_WordsRepeated(decoding.repetition_penalty))
    if decoding.do_sample:
        shapers.append(RowSampler(decoding, inputs))
    return shapers


def _until(ids: list[int], end: int | None, fill: int) -> list[int]:
    """The ids before the end; padding behind rows that ended early is not part of an answer."""
    if end is not None and end in ids:
        ids = ids[: ids.index(end)]
    while end is None and ids and ids[-1] == fill:
        ids = ids[:-1]
    return ids


def text_of(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str]) -> str:
    """The answer as text, cut at the first stop text, without white space around it, and without the half of a
    character with which an answer of bytes may end."""
    text = str(tokenizer.decode(list(ids))).rstrip("\ufffd")
    for mark in stop:
        text = text.partition(mark)[0]
    return text.strip()
