"""The rows that are written now: their slots, the banks of their forewords, and one step over all of them."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.sites import find_sites
from foreword.core.passes.output_layer import logits_at
from foreword.serve.engine.engine_stats import EngineStats
from foreword.serve.engine.foreword_bank import DeltaBank, Places, PrefixBank
from foreword.serve.engine.jobs import Done, Finish, RunningRow, Token, WriteJob
from foreword.serve.engine.row_attention import by_rows
from foreword.serve.engine.row_deltas import changed
from foreword.serve.engine.sampling import Drawn, draw
from foreword.serve.engine.served import Served
from foreword.serve.engine.slot_cache import SlotCache
from foreword.serve.engine.step_plan import Part, StepPlan


class Running:
    """Rows in slots.

    Args:
        slots: rows at once.
        length: tokens a slot holds.
        step_tokens: tokens of a step beyond which no more of a prompt is read in it.

    Raises:
        UnsupportedBaseError: rows of this base cannot be continued from keys and values alone.
        ResourceError: no memory for the slots.
    """

    def __init__(self, model: PreTrainedModel, slots: int, length: int, step_tokens: int, stats: EngineStats) -> None:
        self.model, self.step_tokens, self.stats = model, step_tokens, stats
        self.cache = SlotCache(model, slots, length)
        self.prefixes, self.deltas = PrefixBank(model, self.cache.sites), DeltaBank(model)
        self.places = Places(slots)
        self.rows: list[RunningRow] = []
        self._changing: set[int] = set()
        self._moves = find_sites(model).moves_positions
        self._embed = model.get_input_embeddings()

    def has_room(self) -> bool:
        """Whether another row has a slot."""
        return len(self.rows) < self.cache.slots

    def join(self, job: WriteJob) -> None:
        """Give a job the first free slot; rows stay close together, so that their slots can be read as one view."""
        free = set(range(self.cache.slots)) - {row.slot for row in self.rows}
        row = RunningRow(job, min(free), self._front(job.served))
        row.leader = next((other for other in self.rows if other.leader is None and _same_prompt(other, job)), None)
        self.rows.append(row)

    def _front(self, served: Served) -> int | None:
        if not served.front.sites and not served.front.adapters:
            return None
        place, new = self.places.take(served)
        if new:
            self._changing.discard(place)
            self.prefixes.put(place, served.front)
            self.deltas.put(place, served.front)
            if served.front.adapters:
                self._changing.add(place)
        return place

    def leave(self, row: RunningRow) -> None:
        """Free a row's slot; the row in the last slot moves there."""
        self.rows.remove(row)
        followers = [other for other in self.rows if other.leader is row]
        for other in followers:
            # The next of them reads for the others, from where it has got to: from the beginning.
            other.leader = None if other is followers[0] else followers[0]
        if row.front is not None:
            self.places.give_back(row.job.served)
        last = max(self.rows, key=lambda other: other.slot, default=None)
        if last is not None and last.slot > row.slot:
            self.cache.move(last.slot, row.slot, last.filed)
            last.slot = row.slot
            self.stats.moved_rows += 1

    def clear(self) -> list[WriteJob]:
        """End all rows at once; their jobs."""
        jobs = [row.job for row in self.rows]
        for row in list(self.rows):
            if row.front is not None:
                self.places.give_back(row.job.served)
        self.rows.clear()
        return jobs

    def step(self) -> None:
        """One pass over all rows, one token each; rows that nobody waits for are left out."""
        for row in [row for row in self.rows if row.job.cancelled]:
            self._finish(row, "cancelled")
        if not self.rows:
            return
        self._follow()
        rows, plan = self._plan()
        with torch.inference_mode():
            logits = self._logits(rows, plan)
        parts = [*plan.single, *plan.chunks]
        for row, part in zip(rows, parts, strict=True):
            row.filed = part.end
        asking = [row for row, part in zip(rows, parts, strict=True) if part.wanted]
        self.stats.stepped(len(rows), sum(len(part.ids) for part in plan.chunks))
        if asking:
            drawn = draw([row.sampler for row in asking], logits)
            for row, token in zip(asking, drawn, strict=True):
                self._take(row, token)

    def _follow(self) -> None:
        """Give rows the keys and values of a prompt that another row has read; they read its last token themselves."""
        for row in [row for row in self.rows if row.leader is not None and not row.leader.reading]:
            assert row.leader is not None
            tokens = len(row.job.ids) - 1
            self.cache.move(row.leader.slot, row.slot, tokens)
            row.filed, row.leader = tokens, None
            self.stats.tokens_shared += tokens

    def _plan(self) -> tuple[list[RunningRow], StepPlan]:
        """The step's rows in the order of its parts. Those that read one token stand in front by their slots."""
        writing = sorted((row for row in self.rows if not row.reading), key=lambda row: row.slot)
        left = max(1, self.step_tokens - len(writing))
        reading: list[tuple[RunningRow, Part]] = []
        for row in self.rows:
            if row.reading and row.leader is None and left > 0:
                part = self._part(row, left)
                left -= len(part.ids)
                reading.append((row, part))
        single = [self._part(row, 1) for row in writing]
        rows = [*writing, *(row for row, _ in reading)]
        return rows, StepPlan(single, [part for _, part in reading], self.model.device, self._moves)

    @staticmethod
    def _part(row: RunningRow, most: int) -> Part:
        ids = row.next_ids(most)
        wanted = row.filed + len(ids) >= len(row.job.ids)
        return Part(row.slot, row.filed, ids, row.front, row.job.served.prefix, wanted)

    def _logits(self, rows: list[RunningRow], plan: StepPlan) -> Tensor:
        """The logits that are wanted ``[B, V]`` in float32."""
        at = torch.tensor(plan.wanted(), dtype=torch.long, device=plan.device)
        with (
            by_rows(self.model, self.cache, self.prefixes, plan),
            changed(self.deltas, plan, self._changing),
        ):
            tokens = self._tokens(rows, plan)
            return logits_at(self.model, torch.zeros_like(at), at, position_ids=plan.positions, **tokens)

    def _tokens(self, rows: list[RunningRow], plan: StepPlan) -> dict[str, Tensor]:
        """The step's tokens; as embeddings where some of them are soft slots."""
        ids = torch.tensor([plan.ids], device=plan.device)
        if not any(part.ids and min(part.ids) < 0 for part in plan.chunks):
            return {"input_ids": ids}
        embeddings = self._embed(ids.clamp(min=0)).clone()
        for row, segment in zip(rows[len(plan.single) :], plan.segments, strict=True):
            slots = row.job.served.front.slots
            for place, token in enumerate(segment.part.ids, segment.begin):
                if token < 0 and slots is not None:
                    embeddings[0, place] = slots[-1 - token]
        return {"inputs_embeds": embeddings}

    def _take(self, row: RunningRow, drawn: Drawn) -> None:
        """Hand on what was drawn; the end's token is counted and not told."""
        job = row.job
        if not row.written:
            row.first_seconds = time.perf_counter() - job.asked
        row.written.append(drawn.token)
        self.stats.tokens_written += 1
        if drawn.token in job.served.ends:
            self._finish(row, "stop")
            return
        text = row.stream.push(drawn.token)
        own = job.served.asker.tokenizer.decode([drawn.token]) if job.sampling.logprobs is not None else ""
        job.emit(Token(drawn.token, text, str(own), drawn.logprob, drawn.top))
        if row.stream.stopped:
            self._finish(row, "stop")
        elif len(row.written) >= job.sampling.max_tokens:
            self._finish(row, "length")

    def _finish(self, row: RunningRow, why: Finish) -> None:
        self.leave(row)
        row.job.emit(Done(why, row.stream.end(), len(row.written), row.first_seconds))


def _same_prompt(row: RunningRow, job: WriteJob) -> bool:
    return len(job.ids) > 1 and row.job.served is job.served and row.job.ids == job.ids
