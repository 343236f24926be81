"""The hooks on a model: put there for the first who needs them, taken off by the last.

There is one kind of hook. What runs instead of a function of a module (its ``forward``), or of a family's source file,
is put together from what several users want around it, each at its own :class:`Level`. It replaces the attribute of the
instance: a call in another thread meets the old function or the new one, never half of each, and ``torch.compile``
guards the attribute, so compiled code is compiled anew when a hook comes or goes (it does not guard torch's own hooks).
Every hook asks :mod:`foreword.core.attention.pass_context` what to do; where nothing is in force it does nothing.

What stands on an object is kept on the object itself, so it lives no longer than that.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from types import MethodType, ModuleType
from typing import Any

from torch import nn

Forward = Callable[..., Any]
Around = Callable[[Forward], Forward]
Undo = Callable[[], object]

_HOOKS = "_foreword_hooks"
_LOCK = threading.Lock()
# What a finalizer could not take off at once, because somebody was at work; appending is atomic.
_ABANDONED: deque[HookSet] = deque()
# Objects without a free attribute (configurations, which are written to files), while something stands on them.
_ELSEWHERE: dict[int, tuple[object, _Standing]] = {}


class Level(IntEnum):
    """Where a hook stands around a function, the outermost first."""

    INJECTION = 0
    LAYER_CACHE = 1
    LAST_LAYER = 2
    CHECKPOINTING = 3
    FUSED = 4
    SLOTS = 5
    LORA = 6
    OUTPUT = 7
    PROBE = 8


class Wrapped:
    """Stands in the place of a function and calls it with everything around it that is wanted.

    Also where somebody else has wrapped it meanwhile (a trainer's autocast) it stays in charge of what it calls.
    """

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        self.instance = vars(owner).get(name)
        self.real: Forward = getattr(owner, name)
        self.call = self.real
        self.around: dict[Level, Around] = {}
        self.__wrapped__ = self.real
        self.__name__, self.__doc__ = name, self.real.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the owner has its own function, without anything around it."""
        if self.instance is not None:
            return copy.deepcopy(self.instance, memo)
        twin = memo.get(id(self.owner))
        return self if twin is None else MethodType(getattr(type(twin), self.name), twin)

    def put(self, level: Level, around: Around | None) -> None:
        """Put ``around`` at its level, or take off what is there."""
        if around is None:
            del self.around[level]
        else:
            self.around[level] = around
        call = self.real
        for where in sorted(self.around, reverse=True):
            call = self.around[where](call)
        self.call = call


@dataclass
class _Use:
    users: int
    undo: Undo


@dataclass
class _Standing:
    """What stands on one object: every kind with its users, and the functions that are wrapped."""

    uses: dict[str, _Use] = field(default_factory=dict)
    wrapped: dict[str, Wrapped] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Standing:
        return _Standing()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Standing, ()


def _standing(owner: Any) -> _Standing:
    if isinstance(owner, nn.Module | ModuleType):
        standing: _Standing = vars(owner).setdefault(_HOOKS, _Standing())
        return standing
    return _ELSEWHERE.setdefault(id(owner), (owner, _Standing()))[1]


def _forget(owner: Any, standing: _Standing) -> None:
    if standing.uses or standing.wrapped:
        return
    if isinstance(owner, nn.Module | ModuleType):
        vars(owner).pop(_HOOKS, None)
    else:
        _ELSEWHERE.pop(id(owner), None)


def splice(owner: Any, name: str, level: Level, around: Around) -> Undo:
    """Let ``around(function)`` run instead of ``owner``'s function ``name``; returns what takes that off again.

    For what lives as long as its owner; everybody else asks a :class:`HookSet`.
    """
    wrapped = _standing(owner).wrapped
    if name not in wrapped:
        wrapped[name] = Wrapped(owner, name)
        vars(owner)[name] = wrapped[name]
    wrapped[name].put(level, around)
    return partial(_unsplice, owner, name, level)


def _unsplice(owner: Any, name: str, level: Level) -> None:
    standing = _standing(owner)
    wrapped = standing.wrapped[name]
    wrapped.put(level, None)
    # Where somebody else stands on top, ours stays below and does nothing.
    if wrapped.around or vars(owner).get(name) is not wrapped:
        return
    if wrapped.instance is None:
        del vars(owner)[name]
    else:
        vars(owner)[name] = wrapped.instance
    del standing.wrapped[name]


def bare(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a module for a copy of it: without what stands on the module."""
    standing: _Standing = attributes.get(_HOOKS, _Standing())
    out = {key: value for key, value in attributes.items() if key != _HOOKS}
    for name, wrapped in standing.wrapped.items():
        if out.get(name) is wrapped:
            out[name] = wrapped.instance
            if wrapped.instance is None:
                del out[name]
    return out


@contextmanager
def _locked() -> Iterator[None]:
    with _LOCK:
        yield
        _take_off_abandoned()
    settle()


def settle() -> None:
    """Take off what finalizers left, unless somebody is at work, who does it then. Never waits for a lock."""
    while _ABANDONED and _LOCK.acquire(blocking=False):
        try:
            _take_off_abandoned()
        finally:
            _LOCK.release()


def _take_off_abandoned() -> None:
    while _ABANDONED:
        _ABANDONED.popleft()._let_go()


class HookSet:
    """The hooks that one user needs. A kind stands on an object once, however many need it.

    ``with hold:`` keeps them there; it may be entered again, from any thread, also after everybody has left it.
    """

    def __init__(self) -> None:
        self._needs: dict[tuple[int, str], tuple[Any, str, Callable[[], Undo]]] = {}
        self._entered = 0

    def need(self, owner: Any, kind: str, put_on: Callable[[], Undo]) -> None:
        """Have ``kind`` on ``owner`` while the hold is entered; ``put_on`` puts it there, if nobody has, and gives what
        takes it off."""
        if (id(owner), kind) in self._needs:
            return
        with _locked():
            if (id(owner), kind) not in self._needs:
                if self._entered:
                    _put(owner, kind, put_on)
                self._needs[id(owner), kind] = (owner, kind, put_on)

    def wrap(self, owner: Any, level: Level, around: Around, name: str = "forward") -> None:
        """Have ``around`` stand around ``owner``'s function ``name``; the first of a level serves all who ask."""
        self.need(owner, f"{name}:{level.name}", partial(splice, owner, name, level, around))

    def __enter__(self) -> HookSet:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Have everything that is needed on its object, once more."""
        with _locked():
            self._entered += 1
            if self._entered == 1:
                self._put_all()

    def leave(self) -> None:
        """Undo one :meth:`enter`."""
        with _locked():
            self._let_go()

    def clear(self) -> None:
        """Need nothing any more, and stay entered."""
        with _locked():
            if self._entered:
                self._take_all()
            self._needs.clear()

    def _put_all(self) -> None:
        done = []
        try:
            for owner, kind, put_on in self._needs.values():
                _put(owner, kind, put_on)
                done.append((owner, kind))
        except BaseException:
            self._entered -= 1
            for owner, kind in reversed(done):
                _take(owner, kind)
            raise

    def _let_go(self) -> None:
        self._entered -= 1
        if self._entered == 0:
            self._take_all()

    def _take_all(self) -> None:
        for owner, kind, _ in reversed(self._needs.values()):
            _take(owner, kind)

    def abandon(self) -> None:
        """Leave the hold from a finalizer, which may run in the middle of anything: it must not wait for a lock."""
        _ABANDONED.append(self)
        settle()


def _put(owner: Any, kind: str, put_on: Callable[[], Undo]) -> None:
    uses = _standing(owner).uses
    if kind in uses:
        uses[kind].users += 1
    else:
        uses[kind] = _Use(1, put_on())


def _take(owner: Any, kind: str) -> None:
    standing = _standing(owner)
    use = standing.uses[kind]
    use.users -= 1
    if use.users == 0:
        del standing.uses[kind]
        use.undo()
    _forget(owner, standing)
