"""The engine: one thread that owns the base and runs step after step while there is something to do.

A step is one pass of the model over the next token of every row that writes and, as far as the step's budget goes, over
parts of prompts. Rows join and leave between steps.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.serve.engine import score_rows
from foreword.serve.engine.engine_stats import EngineStats
from foreword.serve.engine.jobs import Done, ScoreJob, WriteJob
from foreword.serve.engine.remote import Remote, RemoteRunning
from foreword.serve.engine.running import Running
from foreword.serve.engine.waiting import StoppedError, Waiting

T = TypeVar("T")


@dataclass(frozen=True)
class EngineLimits:
    """What the engine takes on at once.

    Args:
        rows: rows that write at the same time; each has a slot.
        length: tokens of a row, prompt and answer together.
        step_tokens: tokens of a step beyond which no more of a prompt is read in it.
        queue: requests that wait; the next one is refused.
        score_rows, score_tokens: rows and tokens of a scoring pass.
    """

    rows: int = 16
    length: int = 1024
    step_tokens: int = 256
    queue: int = 256
    score_rows: int = 32
    score_tokens: int = 4096

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise SettingsError(
                    "a limit of the server is out of range", where=name, expected=">= 1", received=value
                )


class Engine:
    """Runs jobs on one base. Use it as a context manager, or call :meth:`stop`.

    Args:
        remote: the engine that writes instead of the base; labels are scored here all the same.

    Raises:
        ResourceError: no memory for the rows' keys and values.
    """

    def __init__(self, base: Base, limits: EngineLimits | None = None, remote: Remote | None = None) -> None:
        self.base = base
        limits = limits or EngineLimits()
        length = limits.length if base.context is None else min(limits.length, base.context)
        self.limits = EngineLimits(**{**vars(limits), "length": length})
        self.stats = EngineStats()
        self.refusal: UnsupportedBaseError | None = None
        self.running: Running | RemoteRunning | None = None
        find_sites(base.model)
        try:
            if remote is not None:
                self.running = RemoteRunning(remote, self.limits.rows, self.stats)
            else:
                self.running = Running(base.model, self.limits.rows, length, self.limits.step_tokens, self.stats)
        except UnsupportedBaseError as error:
            self.refusal = error
        self.waiting = Waiting(self.limits.queue)
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._stopping = self._finishing = False
        self._thread = threading.Thread(target=self._run, name="foreword-engine", daemon=True)
        self._thread.start()

    @property
    def writes(self) -> bool:
        """Whether the base can write here; else it is only asked for labels and tags."""
        return self.running is not None

    @property
    def alive(self) -> bool:
        """Whether it takes and answers requests."""
        return self._thread.is_alive() and not self._finishing

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *problem: object) -> None:
        self.stop(finish=False)

    def submit(self, *jobs: WriteJob | ScoreJob) -> None:
        """Take all of the jobs, or none.

        Raises:
            QueueFullError: too many wait.
            StoppedError: the engine stops.
            SettingsError: a row that does not fit in a slot.
            UnsupportedBaseError: the base does not write here.
        """
        for job in jobs:
            if isinstance(job, WriteJob):
                self._check(job)
            else:
                self._check_score(job)
        self.waiting.add(jobs)
        self._notify()

    def _check(self, job: WriteJob) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not job.ids:
            raise SettingsError("a row has no tokens of its own", hint="send some text")
        moved = job.served.prefix if find_sites(self.base.model).moves_positions else 0
        most = self.limits.length
        if self.base.context is not None:
            most = min(most, self.base.context - moved)
        if job.tokens > most:
            raise SettingsError(
                "the row is longer than the server takes",
                expected=f"at most {most} tokens, prompt and answer together",
                received=f"{len(job.ids)} in the prompt and up to {job.sampling.max_tokens} in the answer",
                hint="shorten the prompt, or lower max_tokens",
            )

    def _check_score(self, job: ScoreJob) -> None:
        head, value = job.served.head, job.served.value
        choices = getattr(head, "choices", ())
        tokens = len(head.lead) + len(job.example.input_ids) + max(map(len, choices), default=0)
        moved = (
            value.num_virtual_tokens if value.prompt is not None or find_sites(self.base.model).moves_positions else 0
        )
        if self.base.context is not None and tokens + moved > self.base.context:
            raise SettingsError(
                "the row is longer than the model can read",
                expected=f"at most {self.base.context - moved} tokens",
                received=f"{tokens} tokens",
                hint="shorten it",
            )

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` in the engine's thread between two steps: the base is free then."""
        future: Future[T] = Future()
        with self._wake:
            if self._stopping:
                future.set_exception(StoppedError("the server is stopping"))
                return future
            self._calls.append((work, future))
            self._wake.notify()
        return future

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def stop(self, finish: bool = True, timeout: float | None = 30.0) -> None:
        """Take nothing more; let running and waiting rows finish (``finish``, up to ``timeout`` seconds) or end them
        now."""
        self.waiting.close()
        with self._wake:
            self._finishing, self._stopping = True, not finish
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            with self._wake:
                self._stopping = True
            self._thread.join()

    def _idle(self) -> bool:
        return not self._calls and not len(self.waiting) and not (self.running and self.running.rows)

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._idle() and not (self._stopping or self._finishing):
                    self._wake.wait()
                if self._stopping or (self._finishing and self._idle()):
                    break
            self._work()
        for job in [*self.waiting.drain(), *(self.running.clear() if self.running else [])]:
            _refuse(job, StoppedError("the server stopped before the answer was complete"))
        while self._calls:
            self._calls.popleft()[1].set_exception(StoppedError("the server is stopping"))

    def _work(self) -> None:
        """One turn: calls, one scoring pass, one step."""
        while self._calls:
            work, future = self._calls.popleft()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
        self._score(self.waiting.take_scores(self.limits.score_rows, self.limits.score_tokens))
        if self.running is None:
            return
        try:
            self._admit(self.running)
            self.running.step()
        except Exception as error:
            # A step concerns all its rows; the next ones may be well.
            for job in self.running.clear():
                _refuse(job, error)

    def _admit(self, running: Running | RemoteRunning) -> None:
        while running.has_room():
            job = self.waiting.take_write(Counter(row.job.served.name for row in running.rows))
            if job is None:
                return
            if job.cancelled:
                job.emit(Done("cancelled"))
                continue
            running.join(job)

    def _score(self, jobs: Sequence[ScoreJob]) -> None:
        waited = [job for job in jobs if not job.cancelled]
        for group in score_rows.groups(waited):
            try:
                answers: Sequence[Any] = score_rows.score(group)
            except Exception as error:
                answers = [error] * len(group)
            self.stats.scored(len(group), sum(len(job.example.input_ids) for job in group))
            for job, answer in zip(group, answers, strict=True):
                job.emit(answer)


def _refuse(job: WriteJob | ScoreJob, error: BaseException) -> None:
    if isinstance(job, WriteJob):
        job.emit(Done("error", error=error))
    else:
        job.emit(error)
