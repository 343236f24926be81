"""How an answer is written: part of the task, so it travels in a foreword's file."""

from __future__ import annotations

from dataclasses import dataclass

from foreword.errors import SettingsError


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated; names and meaning as in transformers' GenerationConfig.

    Attributes:
        max_new_tokens: tokens at most.
        min_new_tokens: tokens at least; the end cannot come before.
        num_beams: beams to search with; 1: greedy, or sampling.
        do_sample: draw each token. What is drawn for a row follows from ``sampling_seed`` and the row's own tokens, so
            that its answer is the same in any batch.
        temperature, top_k, top_p: what is drawn from; top_k 0: all tokens.
        repetition_penalty: above 1: tokens that were there are less likely (Keskar et al. 2019).
        no_repeat_ngram_size: no n-gram of this length comes twice; 0: any may.
        length_penalty: beams: above 0 favours longer answers, below 0 shorter ones.
        stop: texts at which the answer ends; they are not part of it.

    Raises:
        SettingsError: a value out of range, or beams and sampling at once.
    """

    max_new_tokens: int = 64
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    top_k: int = 0
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    length_penalty: float = 1.0
    sampling_seed: int = 13

    def __post_init__(self) -> None:
        checks = (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("min_new_tokens", 0 <= self.min_new_tokens <= self.max_new_tokens, "from 0 to max_new_tokens"),
            ("num_beams", self.num_beams >= 1, "at least 1"),
            ("num_beams", self.num_beams == 1 or not self.do_sample, "1 where tokens are sampled"),
            ("temperature", self.temperature > 0, "above 0"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "at least 0"),
            ("sampling_seed", self.sampling_seed >= 0, "at least 0"),
            ("stop", all(self.stop), "no empty text"),
        )
        for name, good, expected in checks:
            if not good:
                raise SettingsError(
                    "a decoding setting is out of range", where=name, expected=expected, received=getattr(self, name)
                )
