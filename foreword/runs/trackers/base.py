"""What a tracker is, and those that a run was told to report to."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.plugins import registered

NONE = "none"


class Tracker(ABC):
    """Takes the figures of one run.

    Args:
        folder: the run's, for what the tracker writes.
        run: a name for people.
        settings: of the run, plain values by their names.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    """What has to be installed."""

    @abstractmethod
    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def log(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """Figures of a trial (a learning rate) at a step."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes."""


def trackers() -> Mapping[str, type[Tracker]]:
    """Every tracker by its name."""
    return registered("foreword.trackers", Tracker, "foreword.runs.trackers")  # type: ignore[type-abstract]


def asked_for(report_to: Sequence[str]) -> list[type[Tracker]]:
    """The trackers of a setting.

    Raises:
        SettingsError: there is no such tracker, or its package is not installed.
    """
    known, chosen = trackers(), []
    for name in report_to:
        if name == NONE:
            continue
        if name not in known:
            raise SettingsError(
                "there is no such tracker", where="report_to", received=name, expected=", ".join([NONE, *known])
            )
        if find_spec(known[name].package) is None:
            raise SettingsError(
                Message("{package} is not installed", package=known[name].package), where="report_to", received=name,
                hint=Message("pip install 'foreword[{name}]', or leave report_to out", name=name),
            )  # fmt: skip
        chosen.append(known[name])
    return chosen


class Tracking:
    """The trackers of a run. One that fails is told of and left out: training does not depend on it."""

    def __init__(self, report_to: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> None:
        self.failures: list[Message] = []
        self._open: list[Tracker] = []
        first = os.environ.get("RANK", "0") == "0"  # of several processes one reports
        for kind in asked_for(report_to) if first else ():
            try:
                self._open.append(kind(folder, folder.name, settings))
            except Exception as problem:
                self._told(kind.name, problem)

    def log(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """:meth:`Tracker.log` of each."""
        for tracker in list(self._open):
            try:
                tracker.log(trial, step, values)
            except Exception as problem:
                self._told(tracker.name, problem)
                self._open.remove(tracker)

    def close(self) -> None:
        """:meth:`Tracker.close` of each."""
        for tracker in self._open:
            try:
                tracker.close()
            except Exception as problem:
                self._told(tracker.name, problem)
        self._open = []

    def _told(self, name: str, problem: Exception) -> None:
        why = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
        self.failures.append(Message("{name} took no more figures: {why}", name=name, why=why))
