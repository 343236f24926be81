"""What stands on a model's modules, or in its family's source file, while somebody needs it: put there for the first,
taken away by the last."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

Undo = Callable[[], object]


@dataclass
class _Use:
    users: int
    undo: Undo


_HELD: weakref.WeakKeyDictionary[object, dict[str, _Use]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


class Hold:
    """What one user needs on modules; the same kind of thing stands on a module once, however many need it."""

    def __init__(self) -> None:
        self._mine: set[tuple[object, str]] = set()

    def need(self, module: object, kind: str, put_on: Callable[[], Undo]) -> None:
        """Make sure that ``kind`` stands on ``module``; ``put_on`` puts it there and gives what takes it away."""
        if (module, kind) in self._mine:
            return
        with _LOCK:
            uses = _HELD.setdefault(module, {})
            if kind in uses:
                uses[kind].users += 1
            else:
                uses[kind] = _Use(1, put_on())
        self._mine.add((module, kind))

    def release(self) -> None:
        """Need nothing any more."""
        with _LOCK:
            while self._mine:
                module, kind = self._mine.pop()
                uses = _HELD[module]
                uses[kind].users -= 1
                if uses[kind].users == 0:
                    uses.pop(kind).undo()
