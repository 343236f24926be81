"""The forewords that can be asked for: listed from their headers, loaded when they are first asked for, let go of when
others need the memory.

A request's model name is looked up in a dictionary; it is never part of a path.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreword.artifact.peek import Peek, peek
from foreword.core.base.load import Base
from foreword.core.inject.value import EMPTY
from foreword.core.passes.memory import available
from foreword.data.task.task import Task
from foreword.errors import FileFormatError, ForewordError, ResourceError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.runs.prepare.start import same_base
from foreword.runs.use.use import open_foreword
from foreword.serve.engine.engine import Engine
from foreword.serve.engine.served import Served, served

BASE = "base"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UnknownModelError(ForewordError):
    """No foreword of this name is served."""


class UnknownAnswerError(ForewordError):
    """Feedback for an answer that no split gave, or that is forgotten."""


@dataclass(frozen=True)
class Entry:
    """A file that can be asked for.

    Args:
        peek: what its header says.
        stamp: the file's time of change and size when it was listed.
        first_k: what the file's rows were cut to.
    """

    name: str
    path: Path
    peek: Peek
    stamp: tuple[int, int]

    @property
    def first_k(self) -> int | None:
        """Tokens that each field was cut to in training; None: not cut."""
        value = self.peek.manifest.settings.get("first_k")
        return value if isinstance(value, int) else None


def base_task(chat: bool = False) -> Task:
    """What the bare model is asked: to go on with a text, or with a conversation."""
    return Task(kind="generation", template="{{ text }}", guidance="", target="completion", chat=chat)


def checked_name(name: str) -> str:
    """A model's name, if it can be one.

    Raises:
        SettingsError: it cannot.
    """
    if not _NAME.fullmatch(name) or name == BASE:
        raise SettingsError(
            "this cannot be the name of a foreword",
            expected=f"letters, digits, dots, - and _, at most 128, and not {BASE!r}",
            received=repr(name[:140]),
            hint="choose another name",
        )
    return name


class Library:
    """Forewords by name.

    Args:
        base: the base they are for.
        engine: makes keys and values of soft prompts and texts.
        most_bytes: what loaded forewords may take; the least recently used goes first.
    """

    def __init__(self, base: Base, engine: Engine, most_bytes: int = 1 << 30) -> None:
        self.base, self.engine, self.most_bytes = base, engine, most_bytes
        self.refused: dict[str, ForewordError] = {}
        self._entries: dict[str, Entry] = {}
        self._loaded: dict[str, Served] = {}
        self._lock = threading.RLock()
        self._loading: dict[str, threading.Lock] = {}
        asker = Asker(base.model, base.tokenizer, base_task(), base.kind != "decoder")
        self.bare: Served = engine.call(lambda: served(BASE, asker, EMPTY, engine.writes)).result()

    def names(self) -> list[str]:
        """Every foreword that can be asked for, in order of name."""
        with self._lock:
            return sorted(self._entries)

    def entry(self, name: str) -> Entry:
        """What is known of a foreword. Raises UnknownModelError."""
        with self._lock:
            found = self._entries.get(name)
            if found is None:
                why = self.refused.get(name)
                raise UnknownModelError(
                    f"no model is called {name[:140]!r}" if why is None else f"{name}: {why.problem}",
                    hint="GET /v1/models lists them" if why is None else why.hint,
                )
        return found

    def add(self, path: Path, name: str | None = None) -> Entry:
        """List a file under ``name``, or its own name without the ending; one that is there under the name is replaced.
        Files that are refused change nothing else.

        Raises:
            FileFormatError: the file is damaged or hostile.
            BaseMismatchError: it is for another base; says in what they differ.
            SettingsError: its name cannot be a model's.
        """
        name = checked_name(path.name.removesuffix(".foreword") if name is None else name)
        try:
            status = path.stat()
            entry = Entry(name, path, peek(path), (status.st_mtime_ns, status.st_size))
            same_base(entry.peek.manifest, self.base, name)
        except OSError as error:
            raise FileFormatError(f"the file cannot be read: {error.strerror}", where=name) from error
        except ForewordError as error:
            with self._lock:
                self.refused[name] = error
            raise
        with self._lock:
            self._entries[name] = entry
            self.refused.pop(name, None)
            self._loaded.pop(name, None)
        return entry

    def remove(self, name: str) -> None:
        """Take a foreword off the list; rows that use it finish. Raises UnknownModelError."""
        self.entry(name)
        with self._lock:
            self._entries.pop(name, None)
            self._loaded.pop(name, None)

    def loaded(self) -> list[str]:
        """Forewords in memory, the least recently used first."""
        with self._lock:
            return list(self._loaded)

    def loaded_bytes(self) -> int:
        """What the loaded forewords take."""
        with self._lock:
            return sum(one.nbytes for one in self._loaded.values())

    def get(self, name: str) -> Served:
        """A foreword ready to run, loaded if it is not; blocks while it is.

        Raises:
            UnknownModelError: there is none of this name.
            ForewordError: it cannot be loaded.
        """
        if name == BASE:
            return self.bare
        ready = self._touch(name)
        if ready is not None:
            return ready
        with self._lock:
            gate = self._loading.setdefault(name, threading.Lock())
        with gate:
            ready = self._touch(name)
            return ready if ready is not None else self._load(self.entry(name))

    def _touch(self, name: str) -> Served | None:
        with self._lock:
            if name not in self._entries:
                self.entry(name)
            ready = self._loaded.pop(name, None)
            if ready is not None:
                self._loaded[name] = ready
            return ready

    def _load(self, entry: Entry) -> Served:
        # As it is in the file, as rows run behind it, and in the bank of running rows.
        need, there = 3 * entry.peek.num_values * self.base.dtype.itemsize, available(self.base.device)
        if there and need > there:
            raise ResourceError(
                f"not enough memory to load {entry.name}",
                expected=f"{need / 2**20:.0f} MiB",
                received=f"{there / 2**20:.0f} MiB",
                hint="try again when fewer forewords are in use",
            )
        try:
            opened = open_foreword(entry.path, self.base)
            make: Callable[[], Served] = lambda: served(  # noqa: E731
                entry.name, opened.asker, opened.value, self.engine.writes, entry.name
            )
            ready = self.engine.call(make).result()
        except ForewordError as error:
            with self._lock:
                if self._entries.get(entry.name) is entry:
                    self._entries.pop(entry.name)
                    self.refused[entry.name] = error
            raise
        with self._lock:
            if self._entries.get(entry.name) is entry:
                self._loaded[entry.name] = ready
                self._make_room(entry.name)
        return ready

    def _make_room(self, newest: str) -> None:
        for name in list(self._loaded):
            if self.loaded_bytes() <= self.most_bytes:
                return
            if name != newest:
                del self._loaded[name]


class Watched:
    """A folder whose ``.foreword`` files are listed as they come and go.

    Args:
        report: told what was added, removed or refused: (what, name or file, why).
    """

    def __init__(
        self, library: Library, folders: Sequence[Path], report: Callable[[str, str, str], None] = lambda *_: None
    ) -> None:
        self.library, self.folders, self._report = library, list(folders), report
        self._seen: dict[Path, tuple[int, int]] = {}

    def look(self) -> None:
        """Compare the folders with the list, once."""
        now: dict[Path, tuple[int, int]] = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*.foreword")):
                try:
                    status = path.stat()
                except OSError:
                    continue
                now[path] = (status.st_mtime_ns, status.st_size)
        for path in self._seen.keys() - now.keys():
            self._gone(path)
        for path, stamp in now.items():
            if self._seen.get(path) != stamp:
                self._new(path)
        self._seen = now

    def _gone(self, path: Path) -> None:
        name = path.name.removesuffix(".foreword")
        self.library.refused.pop(name, None)
        try:
            if self.library.entry(name).path == path:
                self.library.remove(name)
                self._report("removed", name, "")
        except UnknownModelError:
            return

    def _new(self, path: Path) -> None:
        try:
            self._report("added", self.library.add(path).name, "")
        except ForewordError as error:
            self._report("refused", path.name, str(error))
