"""What the model answers with a foreword in front: one Prediction a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.memory import in_halves
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.encode_row import readable, slot_starts, spoken
from foreword.data.tokens.examples import Encoder, Example, eval_batches
from foreword.data.tokens.tokenize import Tokenizer, end_id, lead_ids
from foreword.evaluation.generate import decode, text_of
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.training import distributed
from foreword.training.heads.base import Answer, Asked, Head
from foreword.training.objective import make_objective

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Asker:
    """A task on a base, ready to be asked with any foreword in front.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        task: what is asked.
        special_tokens: whether rows carry the tokenizer's own special tokens (encoders, encoder-decoders).
        batch_size: rows in a batch.
        groups: row id -> group, of rows that are no independent draws.
    """

    model: Any
    tokenizer: Tokenizer
    task: Task
    special_tokens: bool
    batch_size: int = 32
    groups: Mapping[str, str] = field(default_factory=dict)

    def encoder(self, first_k: int | None = None) -> Encoder:
        """How rows become token ids for this task and base."""
        return Encoder(self.task, self.tokenizer, self.special_tokens, first_k)

    def lead(self, value: Foreword) -> tuple[int, ...]:
        """What stands in front of a row as tokens: a text's tokens; nothing where learned values stand there."""
        if value.num_virtual_tokens:
            return ()
        return tuple(lead_ids(self.task, self.tokenizer, text=value.text, special_tokens=self.special_tokens))

    def objective(self, value: Foreword) -> Head:
        """The task's objective behind ``value``."""
        return make_objective(self.task, self.tokenizer).with_lead(self.lead(value))

    def worded(self, value: Foreword, rows: Sequence[Example]) -> Sequence[Example]:
        """The rows as ``value`` is asked them: without slots of its own, the words stand where soft slots are."""
        if value.slots is not None or not parsed(self.task.template).soft:
            return rows
        starts = [token for group in slot_starts(self.task, self.tokenizer) for token in group]
        return [replace(row, input_ids=spoken(row.input_ids, starts)) for row in rows]

    def answer(
        self, value: Foreword, rows: Sequence[Example], report: Report = lambda done, total: None
    ) -> list[Prediction]:
        """The predictions of ``rows``, in their order; ``report`` is told how many are done.

        Where several processes work at a run, each answers its share of the rows and all have the whole.
        """
        return distributed.collected(self._answered(value, distributed.share(rows), report))

    def _answered(self, value: Foreword, rows: Sequence[Example], report: Report) -> list[Prediction]:
        head, rows = self.objective(value), self.worded(value, rows)
        asked = Asked(self.model, value, self.task, partial(self._write, value))
        predictions: dict[int, Prediction] = {}
        for batch in eval_batches(rows, self.batch_size):
            chosen = [rows[i] for i in batch]
            began = time.perf_counter()
            answers = in_halves(partial(head.answers, asked), chosen, self.model.device)
            ms = 1000 * (time.perf_counter() - began) / len(chosen)
            for index, row, answer in zip(batch, chosen, answers, strict=True):
                predictions[index] = self._prediction(row, answer, ms)
            report(len(predictions), len(rows))
        return [predictions[i] for i in range(len(rows))]

    def _write(self, value: Foreword, inputs: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """What the model writes behind each input, and how many tokens that has."""
        decoding, end = self.task.decoding, end_id(self.task, self.tokenizer)
        written = decode(self.model, self.tokenizer, inputs, value, decoding, end)
        return [(text_of(self.tokenizer, ids, decoding.stop), len(ids)) for ids in written]

    def _prediction(self, row: Example, answer: Answer, ms: float) -> Prediction:
        gold = {} if answer.gold is None else {GOLD_NLL: answer.gold[0], GOLD_TOKENS: float(answer.gold[1])}
        return Prediction(
            id=row.id,
            input=row.words or readable(self.tokenizer, row.input_ids),
            output=answer.output,
            gold=row.reference,
            score=answer.score,
            tokens=answer.tokens,
            ms=ms,
            scores={**answer.scores, **gold},
            references=row.references,
            group=self.groups.get(row.id, ""),
        )

    def mean_loss(self, value: Foreword, rows: Sequence[Example]) -> float:
        """Mean -log p of the right answers, for generation without decoding."""
        objective, rows = self.objective(value), self.worded(value, distributed.share(rows))

        def losses(chosen: Sequence[Example]) -> list[float]:
            with torch.no_grad(), injected(self.model, [value]):
                return objective.losses(objective.outputs(self.model, chosen), chosen, value).tolist()

        found: list[float] = []
        for batch in eval_batches(rows, self.batch_size):
            found += in_halves(losses, [rows[i] for i in batch], self.model.device)
        total, count = distributed.add_up([sum(found), len(found)])
        return total / max(1, count)
