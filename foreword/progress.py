"""How far the work is, for people: bars on a terminal or in a notebook, a line now and then anywhere else.

Work reports by calling ``progress(name, done, total, **fields)``; :class:`Progress` is such a callable and draws on
standard error, so that standard output stays free for results. A bar fits 80 columns: phase, bar, n/N, time left, and
the one figure that matters; a phase that is finished folds into a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from foreword.messages import Message, say, say_if_known
from foreword.messages.width import padded, wrapped

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

NAME_WIDTH, COUNT_WIDTH, LEFT_WIDTH, FIGURE_WIDTH = 22, 13, 7, 17
_ON_DEV = ("dev", "best")
# Of what work reports beside a count, none of these is what a user waits for.
_ASIDE = ("learning_rate", "seed", "task", "file", "tokens_per_second", "share_of_floor")


@dataclass
class Counter:
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
    figure: str = ""
    bar: Any = None


class Progress:
    """Draws progress on ``stream``; a context, so that the bars are gone before an error is printed.

    Args:
        stream: where to draw; None is standard error.
        every: seconds between lines when the stream is not a terminal.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.every = every
        self.notebook = stream is None and in_notebook()
        self._states: dict[str, _State] = {}
        self._folded: set[str] = set()
        self._bars: Bars | None = None
        self._whole: TaskID | None = None
        self._began, self._planned = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        for state in self._states.values():
            if self.notebook and state.bar is not None:
                state.bar.close()
                state.bar = None

    def task(self, name: str, total: int = 0) -> Counter:
        """A handle to advance, for work that counts for itself."""
        return Counter(self, name, total)

    def plan(self, text: str, seconds: float = 0.0) -> None:
        """Say what will be done, on a line of its own; ``seconds`` that it will take make the bar of the whole."""
        self._began, self._planned = time.monotonic(), seconds
        self.note(say_if_known(text))

    def note(self, text: str) -> None:
        """A line for people, above the bars."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def __call__(self, name: str, done: int, total: int, **fields: object) -> None:
        """Report that ``done`` of ``total`` (0: unknown) are done. A smaller ``done`` starts the name again."""
        now = time.monotonic()
        state = self._states.get(name)
        if state is None or done < state.last or total != state.total:
            bar = state.bar if state is not None else None
            state = self._states[name] = _State(began=now, first=done, total=total, bar=bar)
        state.last = done
        state.figure = _figure(fields, state.figure)
        if self.notebook:
            self._tell(name, done, total, state)
        elif self.stream.isatty():
            self._draw(name, done, total, state, now)
        elif now - state.printed >= self.every or (total and done >= total):
            state.printed = now
            text = " ".join(f"{_spoken(key)} {_short(value)}" for key, value in fields.items())
            line = _line(_phase(name), done, total, text, self._eta(state, done, total, now))
            print(line, file=self.stream, flush=True)

    def _eta(self, state: _State, done: int, total: int, now: float) -> float | None:
        if not total or done >= total or done <= state.first:
            return None
        return (now - state.began) / (done - state.first) * (total - done)

    def _draw(self, name: str, done: int, total: int, state: _State, now: float) -> None:
        if self._bars is None:
            self._bars = _bars(self.stream)
            self._bars.start()
            self._whole = self._bars.add_task(say("in all"), total=None, count="", left="", figure="")
        if total and done >= total:
            self._fold(name, total, state, now)
        else:
            eta = self._eta(state, done, total, now)
            count, left = f"{done}/{total}" if total else str(done), "" if eta is None else duration(eta)
            if state.bar is None:
                state.bar = self._bars.add_task(_phase(name), total=total or None, count="", left="", figure="")
            self._bars.update(
                state.bar, completed=done, total=total or None, count=count, left=left, figure=state.figure
            )
        self._draw_whole(now)

    def _draw_whole(self, now: float) -> None:
        assert self._bars is not None
        assert self._whole is not None
        spent = now - self._began
        if self._planned:
            left = duration(max(0.0, self._planned - spent))
            self._bars.update(
                self._whole, completed=min(spent, self._planned), total=self._planned, count=duration(spent), left=left
            )
        else:
            self._bars.update(self._whole, count=duration(spent))

    def _fold(self, name: str, total: int, state: _State, now: float) -> None:
        """The bar of a finished phase becomes a line, the first time that the phase is finished."""
        assert self._bars is not None
        if state.bar is not None:
            self._bars.remove_task(state.bar)
            state.bar = None
        if name not in self._folded:
            self._folded.add(name)
            parts = [
                padded(wrapped(_phase(name), NAME_WIDTH)[0], NAME_WIDTH),
                f"{total}/{total}",
                duration(now - state.began),
                state.figure,
            ]
            self.note(" ".join(parts).rstrip())

    def _tell(self, name: str, done: int, total: int, state: _State) -> None:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        if state.bar is None:
            state.bar = tqdm(desc=_phase(name), total=total or None, leave=False, initial=done)
        state.bar.total = total or None
        state.bar.set_postfix_str(state.figure, refresh=False)
        state.bar.update(done - state.bar.n)
        if total and done >= total:
            state.bar.close()
            state.bar = None


def silent(name: str, done: int, total: int, **fields: object) -> None:
    """Progress that is shown nowhere."""


@contextmanager
def showing(progress: Callable[..., None] | bool | None) -> Iterator[Callable[..., None]]:
    """What work reports to inside the block: ``progress`` itself; None and True: shown here; False: nowhere."""
    if callable(progress):
        yield progress
    elif progress is False:
        yield silent
    else:
        with Progress() as shown:
            yield shown


def plan(progress: Callable[..., None] | None, text: str, seconds: float = 0.0) -> None:
    """:meth:`Progress.plan`, where the work is shown to people."""
    if isinstance(progress, Progress):
        progress.plan(text, seconds)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None and hasattr(shell, "get_ipython") else None
    return kernel is not None and type(kernel).__name__ == "ZMQInteractiveShell"


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    console = Console(file=stream)
    rest = console.width - NAME_WIDTH - COUNT_WIDTH - LEFT_WIDTH - FIGURE_WIDTH - 4
    widths = {"task.description": NAME_WIDTH, "task.fields[count]": COUNT_WIDTH, "task.fields[left]": LEFT_WIDTH}

    def text(field: str, width: int) -> TextColumn:
        column = Column(width=width, no_wrap=True, overflow="ellipsis")
        return TextColumn(f"{{{field}}}", markup=False, table_column=column)

    name, count, left = (text(field, width) for field, width in widths.items())
    bar = BarColumn(bar_width=max(4, min(40, rest - 1)))
    return Bars(name, bar, count, left, text("task.fields[figure]", FIGURE_WIDTH), console=console)


def _figure(fields: dict[str, object], before: str) -> str:
    """The one figure that matters: that on dev or the best so far, once there is one; the loss; what else there is."""
    names = [name for name in fields if name.startswith(_ON_DEV)]
    if not names and before.startswith(tuple(map(say, _ON_DEV))):
        return before
    names += [name for name in ("loss", *fields) if name in fields and name not in _ASIDE]
    return f"{_spoken(names[0])} {_short(fields[names[0]])}" if names else before


def _phase(name: str) -> str:
    """The name of a phase: whose it is, a colon, and what is done."""
    whole = say_if_known(name)
    return whole if whole != name else ": ".join(map(say_if_known, name.split(": ")))


def _spoken(name: str) -> str:
    """The name of a figure: that of a metric, on dev or of the best so far."""
    first, _, metric = name.partition(" ")
    if first == "dev" and metric:
        return say(Message("dev {metric}", metric=metric))
    return say(Message("best {metric}", metric=metric)) if first == "best" and metric else say_if_known(name)


def _line(name: str, done: int, total: int, text: str, eta: float | None) -> str:
    parts = [
        name,
        f"{done}/{total}" if total else str(done),
        text,
        say(Message("eta {time}", time=duration(eta))) if eta is not None else "",
    ]
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
