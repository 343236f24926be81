"""Jobs that wait, in a queue for each model, and which of them is next."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable

from foreword.errors import ForewordError
from foreword.serve.engine.jobs import ScoreJob, WriteJob


class QueueFullError(ForewordError):
    """So many requests wait already that another one is refused."""


class StoppedError(ForewordError):
    """The server stops and takes no more requests."""


class Waiting:
    """Bounded queues, safe to fill from any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._writes: dict[str, deque[WriteJob]] = {}
        self._scores: deque[ScoreJob] = deque()
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return len(self._scores) + sum(map(len, self._writes.values()))

    def add(self, jobs: Iterable[WriteJob | ScoreJob]) -> None:
        """Take all of ``jobs``, or none.

        Raises:
            QueueFullError: there is no room for all of them.
            StoppedError: the server stops.
        """
        batch = list(jobs)
        with self._lock:
            if self._closed:
                raise StoppedError("the server is stopping", hint="ask another one, or this one once it is back")
            if self._count() + len(batch) > self.most:
                raise QueueFullError(
                    "too many requests wait already", expected=f"{self.most} at most", hint="try again in a moment"
                )
            for job in batch:
                if isinstance(job, WriteJob):
                    self._writes.setdefault(job.served.name, deque()).append(job)
                else:
                    self._scores.append(job)

    def close(self) -> None:
        """Refuse what comes from now on."""
        with self._lock:
            self._closed = True

    def take_write(self, running: Counter[str]) -> WriteJob | None:
        """The next job: of the model with the fewest running rows, among equals the one that waits longest."""
        with self._lock:
            heads = [queue[0] for queue in self._writes.values()]
            if not heads:
                return None
            job = min(heads, key=lambda head: (running[head.served.name], head.number))
            queue = self._writes[job.served.name]
            queue.popleft()
            if not queue:
                del self._writes[job.served.name]
            return job

    def take_scores(self, rows: int, tokens: int) -> list[ScoreJob]:
        """The jobs of the next scoring pass: so many rows and tokens at most, one row at least."""
        batch: list[ScoreJob] = []
        with self._lock:
            while self._scores and len(batch) < rows:
                size = len(self._scores[0].example.input_ids)
                if batch and size > tokens:
                    break
                tokens -= size
                batch.append(self._scores.popleft())
        return batch

    def drain(self) -> list[WriteJob | ScoreJob]:
        """Everything that waits; nothing waits afterwards."""
        with self._lock:
            jobs: list[WriteJob | ScoreJob] = [job for queue in self._writes.values() for job in queue]
            jobs += self._scores
            self._writes.clear()
            self._scores.clear()
        return jobs
