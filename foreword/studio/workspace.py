"""The folder that a studio works in: what is there, under names of its own.

    WORKSPACE/data/NAME/     an uploaded file, and dataset.json: what was said about its columns
    WORKSPACE/runs/NAME/     a process (command.json, log, output) and run/, the run's own folder
    WORKSPACE/bin/           what was deleted

A name comes from the browser, a path never does: names are looked up among those that are there.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from foreword.errors import ForewordError
from foreword.messages import Message

_WORD = re.compile(r"[^\w.-]+")
_NAME = re.compile(r"\w[\w.-]{0,79}")


class NotThere(ForewordError):
    """A page that names something that the workspace does not have."""


class Workspace:
    """The folders below a root, which is made where it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        for name in ("data", "runs", "bin"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def names(self, kind: str) -> list[str]:
        """What there is of a kind (``data``, ``runs``, ``bin``), the newest first."""
        folders = [path for path in (self.root / kind).iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
        return [path.name for path in sorted(folders, key=lambda path: (-_made(path), path.name))]

    def folder(self, kind: str, name: str) -> Path:
        """The folder of a name. Raises NotThere where it is none of the names that are there."""
        if name not in self.names(kind):
            raise NotThere(Message("there is no {name!r} here", name=name), hint="it may have been deleted")
        return self.root / kind / name

    def new(self, kind: str, wanted: str) -> Path:
        """A new empty folder with a name near the one that is wanted."""
        stem = slug(wanted)
        for number in range(1, 10_000):
            path = self.root / kind / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
        raise ForewordError("there are too many of this name", where=stem)

    def delete(self, kind: str, name: str) -> None:
        """Move it to the bin."""
        source = self.folder(kind, name)
        target = self.new("bin", f"{kind}.{name}")
        target.rmdir()
        source.rename(target)

    def restore(self, name: str) -> None:
        """Bring it back from the bin, under its old name where that is free."""
        source = self.folder("bin", name)
        kind, _, old = name.partition(".")
        if kind not in ("data", "runs"):
            raise NotThere(Message("there is no {name!r} here", name=name))
        target = self.root / kind / old
        if target.exists():
            target = self.new(kind, old)
            target.rmdir()
        source.rename(target)

    def empty_bin(self) -> None:
        """Remove what is in the bin for good."""
        for name in self.names("bin"):
            shutil.rmtree(self.folder("bin", name))

    def shown(self, text: object) -> str:
        """A text without the workspace's own place in it."""
        return re.sub(re.escape(str(self.root)) + r"(/(data|runs)/[^/\s]+)?/?", "", str(text))


def slug(text: str) -> str:
    """A name that goes into a URL and a folder: letters, digits, ``-``, ``_`` and dots.

    >>> slug("../My reviews (1).csv"), slug("???")
    ('My-reviews-1-.csv', 'unnamed')
    """
    plain = _WORD.sub("-", unicodedata.normalize("NFC", text)).strip("-.")[:60].strip("-.")
    return plain if plain and _NAME.fullmatch(plain) else "unnamed"


def disk_used(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
        except OSError:  # removed while we look
            continue


def _made(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except OSError:
        return 0.0
