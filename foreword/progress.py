"""How far the work is, for people: a bar on a terminal, a line now and then anywhere else.

Work reports by calling ``progress(name, done, total, **fields)``; :class:`Progress` is such a callable and draws on
standard error, so that standard output stays free for results.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@dataclass
class Task:
    """One piece of work with a known or unknown (0) total."""

    progress: Progress
    name: str
    total: int
    done: int = 0

    def advance(self, n: int = 1, **fields: object) -> None:
        """Say that ``n`` more are done; the fields are shown beside the bar: ``loss=0.41``."""
        self.done += n
        self.progress(self.name, self.done, self.total, **fields)


@dataclass
class _State:
    """Of one name: when it began, what was done then, when a line was last printed, and its bar."""

    began: float
    first: int
    total: int
    printed: float = float("-inf")
    last: int = -1
    bar: TaskID | None = None


class Progress:
    """Draws progress on ``stream``; a context, so that the bar is gone before an error is printed.

    Args:
        stream: where to draw; None is standard error.
        every: seconds between lines when the stream is not a terminal.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.every = every
        self._states: dict[str, _State] = {}
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def task(self, name: str, total: int = 0) -> Task:
        """A handle to advance, for work that counts for itself."""
        return Task(self, name, total)

    def __call__(self, name: str, done: int, total: int, **fields: object) -> None:
        """Report that ``done`` of ``total`` (0: unknown) are done. A smaller ``done`` starts the name again."""
        now = time.monotonic()
        state = self._states.get(name)
        if state is None or done < state.last or total != state.total:
            bar = state.bar if state is not None else None
            state = self._states[name] = _State(began=now, first=done, total=total, bar=bar)
        state.last = done
        text = " ".join(f"{key} {_short(value)}" for key, value in fields.items())
        if self.stream.isatty():
            self._draw(name, done, total, text, state)
        elif now - state.printed >= self.every or (total and done >= total):
            state.printed = now
            print(_line(name, done, total, text, self._eta(state, done, total, now)), file=self.stream, flush=True)

    def _eta(self, state: _State, done: int, total: int, now: float) -> float | None:
        if not total or done >= total or done <= state.first:
            return None
        return (now - state.began) / (done - state.first) * (total - done)

    def _draw(self, name: str, done: int, total: int, text: str, state: _State) -> None:
        if self._bars is None:
            self._bars = _bars(self.stream)
            self._bars.start()
        if state.bar is None:
            state.bar = self._bars.add_task(name, total=total or None, text=text)
        self._bars.update(state.bar, completed=done, total=total or None, text=text)


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=Console(file=stream))


def _line(name: str, done: int, total: int, text: str, eta: float | None) -> str:
    parts = [name, f"{done}/{total}" if total else str(done), text, f"eta {duration(eta)}" if eta is not None else ""]
    return " ".join(part for part in parts if part)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """``4s``, ``1m20s``, ``2h05m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
