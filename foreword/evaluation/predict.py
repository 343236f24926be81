"""What the model answers with a foreword in front: one Prediction a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.core.passes.memory import in_halves
from foreword.data.task.tagging import OUTSIDE
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.encode_row import readable, slot_starts, spoken
from foreword.data.tokens.examples import Example, eval_batches
from foreword.data.tokens.tokenize import Tokenizer, end_id, lead_ids
from foreword.evaluation.generate import decode, text_of
from foreword.evaluation.predictions import GOLD_NLL, GOLD_TOKENS, Prediction
from foreword.training import distributed
from foreword.training.heads.base import Chooser, Head
from foreword.training.objective import Tag, make_objective

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
        objective, rows = self.objective(value), self.worded(value, rows)
        found: dict[int, Prediction] = {}
        for batch in eval_batches(rows, self.batch_size):
            chosen = [rows[i] for i in batch]
            began = time.perf_counter()
            made = in_halves(partial(self._made, objective, value), chosen, self.model.device)
            ms = 1000 * (time.perf_counter() - began) / len(chosen)
            for index, (output, score, tokens, scores) in zip(batch, made, strict=True):
                row = rows[index]
                text = row.words or readable(self.tokenizer, row.input_ids)
                found[index] = Prediction(
                    row.id, text, output, row.reference, score, tokens, ms, scores, row.references,
                    self.groups.get(row.id, ""),
                )  # fmt: skip
            report(len(found), len(rows))
        return [found[i] for i in range(len(rows))]

    def _made(
        self, objective: Head, value: Foreword, rows: Sequence[Example]
    ) -> list[tuple[str, float, int, dict[str, float]]]:
        return list(self._batch(objective, value, rows))

    def _batch(
        self, objective: Head, value: Foreword, rows: Sequence[Example]
    ) -> Iterator[tuple[str, float, int, dict[str, float]]]:
        if isinstance(objective, Tag):
            yield from self._tags(objective, value, rows)
            return
        if isinstance(objective, Chooser):
            with torch.no_grad(), injected(self.model, [value]):
                found = objective.outputs(self.model, rows)
                logp = objective.scores(found, value).log_softmax(-1)
            for row, scores in zip(rows, logp.tolist(), strict=True):
                best = max(range(len(scores)), key=scores.__getitem__)
                yield (
                    self.task.labels[best],
                    scores[best],
                    len(row.input_ids),
                    dict(zip(self.task.labels, scores, strict=True)),
                )
            return
        inputs = [(*objective.lead, *row.input_ids) for row in rows]
        likelihood = self._likelihood(objective, value, rows) if all(r.target_ids for r in rows) else [{} for _ in rows]
        end = end_id(self.task, self.tokenizer)
        written = decode(self.model, self.tokenizer, inputs, value, self.task.decoding, end)
        for ids, scores in zip(written, likelihood, strict=True):
            yield text_of(self.tokenizer, ids, self.task.decoding.stop), float("nan"), len(ids), scores

    def _tags(
        self, objective: Tag, value: Foreword, rows: Sequence[Example]
    ) -> Iterator[tuple[str, float, int, dict[str, float]]]:
        """A tag for every word; one that was cut off is outside of everything (or has the first tag)."""
        with torch.no_grad(), injected(self.model, [value]):
            found = objective.outputs(self.model, rows)
            logp = objective.scores(found, value).log_softmax(-1)
        default = OUTSIDE if OUTSIDE in self.task.labels else self.task.labels[0]
        for number, row in enumerate(rows):
            own = logp[found.rows == number]
            best = iter(own.max(-1).indices.tolist())
            said = [default if place < 0 else self.task.labels[next(best)] for place in row.places]
            kept = [tag for tag, place in zip(row.tags, row.places, strict=False) if place >= 0]
            right = [float(line[tag]) for line, tag in zip(own, kept, strict=False) if tag >= 0]
            scores = {GOLD_NLL: -sum(right), GOLD_TOKENS: float(len(right))} if row.tags else {}
            yield " ".join(said), float(own.max(-1).values.sum()), len(row.input_ids), scores

    def _likelihood(self, objective: Head, value: Foreword, rows: Sequence[Example]) -> list[dict[str, float]]:
        with torch.no_grad(), injected(self.model, [value]):
            found = objective.outputs(self.model, rows)
        losses = found.values
        totals = torch.zeros(len(rows), device=losses.device).index_add(0, found.rows, losses).tolist()
        return [{GOLD_NLL: t, GOLD_TOKENS: float(len(r.target_ids))} for t, r in zip(totals, rows, strict=True)]

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
