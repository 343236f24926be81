"""What the engine is asked for: an answer to write, or labels to score; and what it tells back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from foreword.data.tokens.examples import Example
from foreword.serve.engine.sampling import RowSampler, Sampling
from foreword.serve.engine.served import Served
from foreword.serve.engine.text_stream import TextStream

Finish = Literal["stop", "length", "cancelled", "error"]
_NUMBER = itertools.count()


@dataclass(frozen=True)
class Token:
    """A token that was written.

    Args:
        text: what of the answer's text is certain with it.
        bytes_text: the token's own text.
    """

    id: int
    text: str
    bytes_text: str = ""
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Done:
    """The end of a job.

    Args:
        text: what was still held back.
        written: tokens written, the end's included.
        first_seconds: from asking to the first token.
        error: what went wrong, for ``finish="error"``.
    """

    finish: Finish
    text: str = ""
    written: int = 0
    first_seconds: float = 0.0
    error: BaseException | None = None


Event = Token | Done


@dataclass(eq=False)
class WriteJob:
    """An answer to write.

    Args:
        served: what stands in front.
        ids: the row's own tokens; afterwards with the foreword's lead in front.
        emit: called in the engine's thread with each event; it must return at once.
    """

    served: Served
    ids: tuple[int, ...]
    sampling: Sampling
    emit: Callable[[Event], None]
    strip: bool = True
    number: int = field(default_factory=lambda: next(_NUMBER))
    asked: float = field(default_factory=time.perf_counter)
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.ids = (*self.served.lead, *self.ids)

    def cancel(self) -> None:
        """Let the row go at the next step."""
        self.cancelled = True

    @property
    def tokens(self) -> int:
        """What it may need of a slot."""
        return len(self.ids) + self.sampling.max_tokens


@dataclass(frozen=True)
class Scored:
    """The answer to a scoring job: each label's probability, or each word's tag and its probability."""

    probabilities: dict[str, float]
    tags: tuple[tuple[str, float], ...] = ()


@dataclass(eq=False)
class ScoreJob:
    """Labels (or tags) to score for one row; ``emit`` is called once, with the answer or with what went wrong."""

    served: Served
    example: Example
    emit: Callable[[Scored | BaseException], None]
    number: int = field(default_factory=lambda: next(_NUMBER))
    asked: float = field(default_factory=time.perf_counter)
    cancelled: bool = False

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.cancelled = True


class RunningRow:
    """A write job in a slot."""

    def __init__(self, job: WriteJob, slot: int, front: int | None) -> None:
        self.job, self.slot, self.front = job, slot, front
        self.filed = 0
        # A row with the same prompt behind the same foreword, which reads it for both.
        self.leader: RunningRow | None = None
        self.written: list[int] = []
        self.first_seconds = 0.0
        served = job.served
        self.sampler = RowSampler(job.sampling, job.ids, served.ends)
        self.stream = TextStream(served.asker.tokenizer, job.sampling.stop, strip=job.strip)

    @property
    def reading(self) -> bool:
        """Whether a part of the prompt is still to be read."""
        return self.filed < len(self.job.ids)

    def next_ids(self, most: int) -> tuple[int, ...]:
        """The tokens that are read next."""
        if self.reading:
            return self.job.ids[self.filed : self.filed + most]
        return (self.written[-1],)
