"""The user's cache: converted base models and sample data, each built beside its place and renamed into it.

``FOREWORD_CACHE`` names the folder; without it ``~/.cache/foreword`` is used. A folder that is there is whole:
a kill while it is being built leaves only a ``.partial-`` folder, which a later build removes after a day.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foreword.errors import ResourceError

_STALE_SECONDS = 24 * 3600.0
_BLOCK = 4 * 1024 * 1024


def cache_folder(*parts: str) -> Path:
    """The cache, or a folder in it; it is not created.

    Args:
        parts: names below the cache.
    """
    root = os.environ.get("FOREWORD_CACHE")
    base = Path(root).expanduser() if root else Path.home() / ".cache" / "foreword"
    return base.joinpath(*parts)


def file_digest(path: Path, advance: Callable[[int, int], None] | None = None) -> str:
    """The sha256 of a file's bytes as 64 hexadecimal digits.

    Args:
        path: the file, read in blocks of 4 MiB.
        advance: called with (bytes read, bytes in all) after each block.
    """
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if advance is not None:
                advance(done, total)
    return digest.hexdigest()


@contextmanager
def building(target: Path, *, needs_bytes: int = 0) -> Iterator[Path]:
    """A new empty folder that becomes ``target`` when the block ends without an error.

    Two processes that build the same target do not disturb each other: the first to finish wins, and the
    other's folder, which holds the same, is removed.

    Args:
        target: the folder to make; its parents are created.
        needs_bytes: how much will be written, in bytes, checked against the free space of the disk.

    Raises:
        ResourceError: the disk has not got ``needs_bytes`` free, or the cache cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        free = shutil.disk_usage(target.parent).free
        if needs_bytes > free:
            raise ResourceError(
                "not enough free disk space in the cache",
                where=str(target.parent),
                expected=f"{needs_bytes / 1e6:.0f} MB",
                received=f"{free / 1e6:.0f} MB",
                hint="free some space, or name another folder with FOREWORD_CACHE",
            )
        folder = Path(tempfile.mkdtemp(prefix=f".partial-{target.name}-", dir=target.parent))
    except OSError as error:
        raise ResourceError(
            f"the cache cannot be written to: {error}",
            where=str(target.parent),
            hint="name another folder with FOREWORD_CACHE",
        ) from error
    try:
        yield folder
        folder.chmod(0o755)
        _move(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _remove_stale(parent: Path) -> None:
    for left in parent.glob(".partial-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
