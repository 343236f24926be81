"""Shadow traffic: what one foreword is asked, another is asked too; nobody sees its answer, it is only compared.

It runs behind the answer that was given, and not at all while many requests wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from foreword.errors import SettingsError

log = logging.getLogger("foreword.serve")
_AT_ONCE = 32


@dataclass
class Shadow:
    """The foreword ``model`` behind another one, and how often both said the same."""

    model: str
    asked: int = 0
    equal: int = 0


class Shadows:
    """Every shadow of a server.

    Args:
        texts: ``A=B``.
        known: raises where there is no such foreword.

    Raises:
        SettingsError: not of that form, or two behind one.
        UnknownModelError: one of them is not there.
    """

    def __init__(self, texts: Iterable[str], known: Callable[[str], object]) -> None:
        self._by_name: dict[str, Shadow] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for text in texts:
            name, _, other = text.partition("=")
            if not name or not other or name == other or name in self._by_name:
                raise SettingsError(
                    "a shadow stands behind one foreword", where="--shadow", expected="A=B", received=text
                )
            known(name)
            known(other)
            self._by_name[name] = Shadow(other)

    def of(self, name: str) -> str | None:
        """The foreword in the shadow of ``name``."""
        shadow = self._by_name.get(name)
        return None if shadow is None else shadow.model

    def note(self, name: str, equal: bool) -> None:
        """One more answer was compared."""
        shadow = self._by_name[name]
        shadow.asked += 1
        shadow.equal += equal

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it behind the request; where enough is done already it is left out."""
        if len(self._tasks) >= _AT_ONCE:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("shadow failed", extra={"fields": {"why": type(task.exception()).__name__}})

    def to_json(self) -> list[dict[str, Any]]:
        """Where they stand."""
        return [
            {"id": name, "shadow": shadow.model, "asked": shadow.asked, "equal": shadow.equal}
            for name, shadow in self._by_name.items()
        ]
