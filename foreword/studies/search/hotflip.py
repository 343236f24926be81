"""Token swaps guided by the gradient: which other token would lower the loss the most, to first order.

HotFlip's estimate (Ebrahimi et al. 2018), used for prompts by AutoPrompt (Shin et al. 2020): with g the gradient of the
loss at the embedding e of one token of the instruction, putting the token v there changes the loss by about
(e_v - e) . g. The estimate only proposes; the race decides. Readable words are kept to: what is proposed is text again,
and has to be the same tokens when it is read.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foreword.core.inject.initial_values import embeddings_of
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.quality.unicode import is_cjk
from foreword.data.row import Row
from foreword.data.tokens.tokenize import pieces, token_ids
from foreword.messages import Message
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State

_BATCH, _CHUNK, _PLACES = 16, 8192, 6


@dataclass(frozen=True)
class Swaps:
    """Single tokens of the champion's instruction exchanged."""

    judge: PromptScorer
    rows: tuple[Row, ...]
    name: str = "swap"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        best, dice = replace(state.best, calibrate=False), random.Random(state.dice(self.name))
        rows = dice.sample(self.rows, min(_BATCH, len(self.rows)))
        found = instruction_span(self.judge, best)
        if found is None or not rows:
            return []
        ids, places = found
        gains = self._gains(best, ids, places, rows)
        return self._variants(state.best, ids, gains, wanted)

    def gradient(self, best: Variant, ids: Sequence[int], rows: Sequence[Row]) -> Tensor:
        """The gradient of the mean loss on ``rows`` at the embeddings of ``ids``: ``[P, E]``."""
        prepared = self.judge.prepared
        task = best.asked(self.judge.task, self.judge.shown)
        asker = replace(prepared.asker, task=task)
        examples = asker.encoder().encode(rows)
        prompt = embeddings_of(prepared.base.model, ids).to(prepared.base.device).requires_grad_(True)
        value = Foreword(prompt=prompt)
        with torch.enable_grad(), injected(prepared.base.model, [value]):
            objective = asker.objective(value)
            loss = objective.losses(objective.outputs(prepared.base.model, examples), examples, value).mean()
            (gradient,) = torch.autograd.grad(loss, prompt)
        return gradient.detach()

    def _gains(
        self, best: Variant, ids: Sequence[int], places: Sequence[int], rows: Sequence[Row]
    ) -> list[tuple[float, int, int]]:
        """(estimated fall of the loss, place, token), the largest first; a few tokens for each place."""
        model = self.judge.prepared.base.model
        gradient = self.gradient(best, ids, rows)[list(places)].float().cpu()
        readable = _readable(self.judge)
        falls = []
        for start in range(0, len(readable), _CHUNK):
            falls.append(-embeddings_of(model, readable[start : start + _CHUNK]) @ gradient.T)
        own = (embeddings_of(model, [ids[place] for place in places]) * gradient).sum(-1)
        fall = torch.cat(falls) + own
        top = fall.topk(min(4 * _PLACES, fall.shape[0]), dim=0)
        out = [
            (float(top.values[rank, column]), place, readable[int(top.indices[rank, column])])
            for column, place in enumerate(places)
            for rank in range(top.values.shape[0])
        ]
        return sorted(out, key=lambda one: -one[0])

    def _variants(
        self, best: Variant, ids: Sequence[int], gains: Sequence[tuple[float, int, int]], wanted: int
    ) -> list[Variant]:
        tokenizer = self.judge.prepared.base.tokenizer
        own = token_ids(tokenizer, best.guidance)
        first = _find(ids, own)
        made: list[Variant] = []
        used: dict[int, int] = {}
        for fall, place, token in gains:
            here = place - first
            if fall <= 0 or token == ids[place] or used.get(place, 0) > 1 or len(made) >= wanted:
                continue
            changed = [*own[:here], token, *own[here + 1 :]]
            text = str(tokenizer.decode(changed))
            if token_ids(tokenizer, text) != changed:
                continue
            old, new = str(tokenizer.decode([own[here]])), str(tokenizer.decode([token]))
            made.append(
                best.made(
                    self.name, Message("{quoted} became {other}", quoted=repr(old), other=repr(new)), guidance=text
                )
            )
            used[place] = used.get(place, 0) + 1
        return made


def instruction_span(judge: PromptScorer, variant: Variant) -> tuple[list[int], list[int]] | None:
    """All tokens in front of a row, and the places among them that may be swapped: the instruction's own.

    None where the instruction is not a run of tokens of its own (a chat template that joins them), or has none.
    """
    asker = replace(judge.prepared.asker, task=variant.asked(judge.task, judge.shown))
    ids = list(asker.lead(Foreword(text=asker.task.guidance)))
    own = token_ids(asker.tokenizer, variant.guidance)
    first = _find(ids, own)
    if not own or first < 0 or variant.guidance not in pieces(asker.task, asker.tokenizer).lead:
        return None
    words = [i for i, token in enumerate(own) if any(s.isalnum() for s in str(asker.tokenizer.decode([token])))]
    return (ids, [first + i for i in words]) if words else None


def _find(ids: Sequence[int], part: Sequence[int]) -> int:
    for start in range(len(ids) - len(part) + 1):
        if list(ids[start : start + len(part)]) == list(part):
            return start
    return -1


def _readable(judge: PromptScorer) -> list[int]:
    """Tokens that are words or parts of words, not single letters; where a vocabulary has none, its letters."""
    tokenizer = judge.prepared.base.tokenizer
    size = min(len(tokenizer), int(judge.prepared.base.model.config.get_text_config().vocab_size))
    special = set(tokenizer.all_special_ids)
    texts = [str(text).strip() for text in tokenizer.batch_decode([[token] for token in range(size)])]
    letters = [i for i, text in enumerate(texts) if i not in special and text.isalpha()]
    return [i for i in letters if len(texts[i]) > 1 or is_cjk(texts[i])] or letters
