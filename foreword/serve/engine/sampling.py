"""From a row's logits to its next token; a row's choice never depends on the rows beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from foreword.data.task.decoding import Decoding


@dataclass(frozen=True)
class Sampling:
    """How one answer is written; names as in :class:`~foreword.data.task.decoding.Decoding` and OpenAI's API.

    Args:
        temperature: 0: the likeliest token, always.
        logprobs: how many alternatives are told beside each token; None: nothing is.
        presence_penalty, frequency_penalty: taken off the logits of tokens that were written, once or each time.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None

    @property
    def plain(self) -> bool:
        """Whether logits are taken as they are."""
        return (
            self.repetition_penalty == 1
            and not self.no_repeat_ngram_size
            and not self.presence_penalty
            and not self.frequency_penalty
        )


def sampling_of(decoding: Decoding, max_tokens: int) -> Sampling:
    """How a task writes its answers."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=decoding.temperature if decoding.do_sample else 0.0,
        top_p=decoding.top_p if decoding.do_sample else 1.0,
        top_k=decoding.top_k if decoding.do_sample else 0,
        seed=decoding.sampling_seed,
        stop=decoding.stop,
        min_tokens=decoding.min_new_tokens,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
    )


@dataclass(frozen=True)
class Drawn:
    """A token, its log-probability and the likeliest alternatives with theirs (both only where they are asked for)."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class RowSampler:
    """Draws one row's tokens.

    Args:
        read: the row's prompt, for the penalties.
        ends: tokens that end an answer, which ``min_tokens`` holds back.
    """

    def __init__(self, sampling: Sampling, read: Sequence[int], ends: frozenset[int]) -> None:
        self.sampling, self._ends = sampling, ends
        self._words = [token for token in read if token >= 0]
        self._written: list[int] = []
        self._generator = torch.Generator()
        self._generator.manual_seed(torch.seed() if sampling.seed is None else sampling.seed)

    def shaped(self, logits: Tensor) -> Tensor:
        """The row's logits ``[V]`` after penalties and what may not come yet."""
        asked = self.sampling
        early = bool(self._ends) and len(self._written) < asked.min_tokens
        if asked.plain and not early:
            return logits
        row = logits[None].clone()
        ids = torch.tensor([self._words + self._written], device=logits.device)
        if asked.repetition_penalty != 1 and ids.numel():
            row = RepetitionPenaltyLogitsProcessor(asked.repetition_penalty)(ids, row)
        if asked.no_repeat_ngram_size:
            row = NoRepeatNGramLogitsProcessor(asked.no_repeat_ngram_size)(ids, row)
        for token, times in Counter(self._written).items():
            row[0, token] -= asked.presence_penalty + asked.frequency_penalty * times
        if early:
            row[0, list(self._ends)] = float("-inf")
        return row[0]

    def uniform(self) -> float:
        """The row's next number in 0..1."""
        return float(torch.rand(1, generator=self._generator, dtype=torch.float64))

    def note(self, token: int) -> None:
        """Remember what was drawn."""
        self._written.append(token)


def draw(rows: Sequence[RowSampler], logits: Tensor) -> list[Drawn]:
    """The next token of each row for logits ``[B, V]`` in float32."""
    if any(not row.sampling.plain or row.sampling.min_tokens for row in rows):
        logits = torch.stack([row.shaped(line) for row, line in zip(rows, logits, strict=True)])
    tokens = logits.argmax(-1)
    warm = [place for place, row in enumerate(rows) if row.sampling.temperature > 0]
    if warm:
        at = torch.tensor(warm, device=logits.device)
        tokens[at] = _sampled([rows[place] for place in warm], logits[at])
    chosen: list[int] = tokens.tolist()
    told = {place: row.sampling.logprobs for place, row in enumerate(rows) if row.sampling.logprobs is not None}
    found = _told(told, logits, chosen) if told else {}
    for row, token in zip(rows, chosen, strict=True):
        row.note(token)
    return [found.get(place) or Drawn(token) for place, token in enumerate(chosen)]


def _sampled(rows: Sequence[RowSampler], logits: Tensor) -> Tensor:
    """One token a row by inverting the distribution at the row's own uniform number: top-k, then top-p."""
    settings = [row.sampling for row in rows]
    heat = logits.new_tensor([one.temperature for one in settings], dtype=torch.float64)
    values, order = logits.double().div(heat[:, None]).sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(values.shape[-1], device=logits.device)
    top_k = torch.tensor([one.top_k or len(rank) for one in settings], device=logits.device)
    values = values.masked_fill(rank >= top_k[:, None], float("-inf"))
    shares = values.softmax(-1)
    top_p = logits.new_tensor([one.top_p for one in settings], dtype=torch.float64)
    # The token with which the sum passes top_p is still among them.
    shares = shares.masked_fill((shares.cumsum(-1) - shares) >= top_p[:, None], 0.0)
    shares[:, 0] = shares[:, 0].clamp(min=1e-300)
    sums = shares.cumsum(-1)
    uniform = torch.tensor([row.uniform() for row in rows], dtype=torch.float64, device=logits.device)
    place = torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True).clamp(max=sums.shape[-1] - 1)
    drawn: Tensor = order.gather(1, place)[:, 0]
    return drawn


def _told(told: dict[int, int], logits: Tensor, chosen: Sequence[int]) -> dict[int, Drawn]:
    places = list(told)
    logp = logits[torch.tensor(places, device=logits.device)].log_softmax(-1)
    found = {}
    for line, place in zip(logp, places, strict=True):
        top = line.topk(told[place]) if told[place] else None
        pairs = () if top is None else tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        found[place] = Drawn(chosen[place], float(line[chosen[place]]), pairs)
    return found
