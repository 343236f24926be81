"""Time left of a demo: every piece of its work shows how long the whole will still take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from foreword.progress import Progress, duration
from foreword.settings.schema import ProgressCall

# Seconds by the plan after which what was seen counts as much as the plan.
_TRUST = 20.0


def say(text: str) -> None:
    """Print for people."""
    print(text, flush=True)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        title: shown when it begins.
        seconds: what it is expected to take on two free cores; 0 when nobody can know (a download).
        parts: name of a piece of work, as it is reported -> its share of the stage, in the order of the work.
    """

    title: str
    seconds: float
    parts: Mapping[str, float] = field(default_factory=dict)

    def share(self, name: str, done: int, total: int) -> float:
        """How much of the stage is done when ``done`` of ``total`` of the piece ``name`` are."""
        share = done / total if total else 0.0
        if name not in self.parts:
            return 0.0 if self.parts else share
        names = list(self.parts)
        return sum(self.parts[one] for one in names[: names.index(name)]) + self.parts[name] * share


@dataclass
class Clock:
    """Times the stages as they come, and says how long the rest will take at the pace seen so far."""

    stages: tuple[Stage, ...]
    began: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=dict)
    parts: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.monotonic() - self.began

    def left(self, stage: Stage, share: float, running: float) -> float:
        """Seconds left when ``share`` of ``stage`` is done after ``running`` seconds of it."""
        before = [one for one in self.stages if one.title in self.spent and one.seconds]
        planned = sum(one.seconds for one in before) + share * stage.seconds
        took = sum(self.spent[one.title] for one in before) + (running if stage.seconds else 0.0)
        pace = (took + _TRUST) / (planned + _TRUST)
        return (sum(one.seconds for one in self.stages) - planned) * pace

    @contextmanager
    def during(self, stage: Stage) -> Iterator[ProgressCall]:
        """Time a stage; yields the progress to hand to its work, which shows the time left of the whole demo too."""
        began = time.monotonic()
        number, left = self.stages.index(stage) + 1, duration(self.left(stage, 0.0, 0.0))
        say(f"\n[{number}/{len(self.stages)}] {stage.title} (the whole demo: about {left} left)")
        with Progress() as progress:
            at, reached = began, 0.0

            def show(name: str, done: int, total: int, **fields: object) -> None:
                # What has passed since the last word belongs to what is spoken of now.
                nonlocal at, reached
                now, key = time.monotonic(), (stage.title, name)
                self.parts[key] = self.parts.get(key, 0.0) + now - at
                at = now
                # A piece that is not planned for (an evaluation in the middle of training) takes nothing back.
                reached = max(reached, stage.share(name, done, total))
                left = self.left(stage, reached, now - began)
                progress(name, done, total, **fields, **{"whole demo": f"{duration(left)} left"})

            yield show
        self.spent[stage.title] = time.monotonic() - began

    def table(self, least: float = 1.0) -> str:
        """Where the time went: each stage, and in it the pieces of work of at least ``least`` seconds."""
        lines = []
        for title, seconds in self.spent.items():
            lines.append(f"{seconds:7.1f} s  {title}")
            inside = {name: spent for (stage, name), spent in self.parts.items() if stage == title and spent >= least}
            inside["the rest"] = seconds - sum(inside.values())
            shown = inside.items() if len(inside) > 1 else ()
            lines += [f"{spent:7.1f} s    {name}" for name, spent in shown if spent >= least]
        return "\n".join(lines)
