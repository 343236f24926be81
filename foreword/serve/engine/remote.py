"""Rows that another engine writes: queue, slots and answers as in :class:`~foreword.serve.engine.running.Running`, with
llama-server or vLLM behind them instead of a pass of the base.

It fails closed: an answer in which the engine did not use the foreword's keys and values is an error and is not given
out. Answers come whole: whether the foreword was used is known when the engine is done.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from foreword.errors import ForewordError, SettingsError
from foreword.serve.engine.engine_stats import EngineStats
from foreword.serve.engine.jobs import Done, Token, WriteJob
from foreword.serve.engine.sampling import Sampling
from foreword.serve.engine.served import Served
from foreword.serve.engine.text_stream import TextStream

# How long a turn of the engine waits for an answer before it looks for new jobs.
_TURN_SECONDS = 0.01


class EngineFaultError(ForewordError):
    """The engine behind the gateway failed, or answered without the foreword."""


class Remote(Protocol):
    """An engine that is asked over HTTP.

    Attributes:
        slots: answers that it writes at once.
    """

    slots: int

    def check(self, job: WriteJob) -> None:
        """Refuse what this engine cannot do. Raises SettingsError."""

    def ask(self, job: WriteJob, slot: int) -> list[int]:
        """The tokens of an answer. Raises EngineFaultError."""


_TEXTS = ("The capital of France is", "1 2 3 4 5 6", "Dear Sir or Madam,", "def add(a, b):")


def same_base(remote: Remote, bare: Served, model: Any) -> int:
    """How many of four texts the engine goes on with by the same token as the base here: a GGUF or folder of other
    weights has the same shape and takes every foreword without a word.

    Raises:
        SettingsError: fewer than half.
        EngineFaultError: it does not answer.
    """
    equal = 0
    for text in _TEXTS:
        ids = tuple(bare.asker.tokenizer(text, add_special_tokens=False)["input_ids"])
        job = WriteJob(bare, ids, Sampling(1), lambda event: None)
        with torch.no_grad():
            ours = int(model(torch.tensor([job.ids], device=model.device)).logits[0, -1].argmax())
        # Its own end of the text is no token.
        equal += remote.ask(job, 0)[:1] in ([ours], [])
    if equal < len(_TEXTS) / 2:
        raise SettingsError(
            "the engine answers like another base",
            where="--url",
            expected="the base that the forewords were trained on",
            received=f"{equal} of {len(_TEXTS)} next tokens are the same",
        )
    return equal


@dataclass(eq=False)
class RemoteRow:
    """A job at the engine; ``result`` is what came back."""

    job: WriteJob
    slot: int
    result: list[int] | BaseException | None = None
    told: bool = False


class RemoteRunning:
    """Rows at the engine.

    Args:
        rows: at once; the engine's own number of slots where that is smaller.
    """

    def __init__(self, remote: Remote, rows: int, stats: EngineStats) -> None:
        self.remote, self.stats = remote, stats
        self.slots = min(rows, remote.slots)
        self.rows: list[RemoteRow] = []
        self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="foreword-gateway")
        self._came = threading.Condition()

    def has_room(self) -> bool:
        """Whether another row has a slot."""
        return len(self.rows) < self.slots

    def join(self, job: WriteJob) -> None:
        """Ask the engine."""
        free = set(range(self.slots)) - {row.slot for row in self.rows}
        row = RemoteRow(job, min(free))
        self.rows.append(row)
        self._pool.submit(self._ask, row)

    def _ask(self, row: RemoteRow) -> None:
        try:
            self.remote.check(row.job)
            result: list[int] | BaseException = self.remote.ask(row.job, row.slot)
        except BaseException as problem:
            result = problem
        with self._came:
            row.result = result
            self._came.notify()

    def step(self) -> None:
        """Hand on what came back; wait a moment where nothing did."""
        if not self.rows:
            return
        with self._came:
            if all(row.result is None for row in self.rows):
                self._came.wait(_TURN_SECONDS)
        for row in list(self.rows):
            if row.job.cancelled and not row.told:
                # Its slot stays taken until the engine is done with it.
                row.told = True
                row.job.emit(Done("cancelled"))
            if row.result is not None:
                self.rows.remove(row)
                if not row.told:
                    self._tell(row.job, row.result)

    def clear(self) -> list[WriteJob]:
        """Wait for nothing more; the jobs that have no answer."""
        jobs = [row.job for row in self.rows if not row.told]
        self.rows.clear()
        return jobs

    def _tell(self, job: WriteJob, result: list[int] | BaseException) -> None:
        if isinstance(result, BaseException):
            job.emit(Done("error", error=result))
            return
        seconds = time.perf_counter() - job.asked
        stream, written = TextStream(job.served.asker.tokenizer, job.sampling.stop, strip=job.strip), 0
        ended = len(result) < job.sampling.max_tokens
        self.stats.stepped(1, len(job.ids))
        for token in result[: job.sampling.max_tokens]:
            written += 1
            ended = ended or token in job.served.ends
            if token in job.served.ends:
                break
            job.emit(Token(token, stream.push(token)))
            if stream.stopped:
                ended = True
                break
        self.stats.tokens_written += written
        job.emit(Done("stop" if ended else "length", stream.end(), written, seconds))
