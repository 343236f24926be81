"""Reading files that nobody vouches for."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from foreword.errors import FileFormatError
from foreword.messages import Message

# Longer files are mapped: their pages come from the disk when they are used, and leave memory again when it is short.
MAPPED_FROM = 64 * 1024**2


@contextmanager
def open_regular(path: str | Path, *, follow_links: bool = False) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and give it with its size in bytes.

    Folders, pipes and devices are refused before a byte is read (opening a pipe could wait for ever), and links too
    unless ``follow_links``: a link in a folder that somebody else fills can point anywhere.

    Raises:
        FileFormatError: the path is not a regular file, or cannot be opened.
    """
    where = os.fspath(path)
    try:
        mode = (os.stat if follow_links else os.lstat)(path).st_mode
        if not stat.S_ISREG(mode):
            raise FileFormatError(
                Message("this is {kind}", kind=_kind(mode)),
                where=where,
                expected="a regular file",
                hint=_hint(path, mode),
            )
        # Checked again on what was really opened: the path may have been swapped in between.
        links = 0 if follow_links else os.O_NOFOLLOW
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    except (OSError, ValueError) as error:
        hint = "check the path" if isinstance(error, (FileNotFoundError, ValueError)) else "check the permissions"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileFormatError(
            Message("the file cannot be opened ({reason})", reason=reason), where=where, hint=hint
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileFormatError(
                Message("this is {kind}", kind=_kind(status.st_mode)), where=where, expected="a regular file"
            )
        yield file, status.st_size


def _kind(mode: int) -> str:
    names = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    return names.get(stat.S_IFMT(mode), "a device or a socket")


def _hint(path: str | Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return f"give the file that it points to, {os.path.realpath(path)!r}, if you trust it"
    return "give the path of the file itself"


def read_regular(path: str | Path, limit: int, *, follow_links: bool = False) -> bytes:
    """All bytes of a regular file of at most ``limit`` bytes.

    Raises:
        FileFormatError: not a regular file, longer than ``limit``, or changed while it was read.
    """
    with open_regular(path, follow_links=follow_links) as (file, size):
        if size > limit:
            raise FileFormatError(
                "the file is too long",
                where=os.fspath(path),
                expected=Message("at most {limit} bytes", limit=limit),
                received=f"{size} bytes",
            )
        data = file.read(size + 1)
    if len(data) != size:
        raise FileFormatError(
            "the file changed while it was read", where=os.fspath(path), hint="wait until it is written, then try again"
        )
    return data


def contents(path: str | Path, limit: int, *, follow_links: bool = False) -> bytes | mmap.mmap:
    """All bytes of a regular file of at most ``limit`` bytes: read, or mapped (privately) where it is long.

    Raises:
        FileFormatError: not a regular file, longer than ``limit``, or changed while it was read.
    """
    with open_regular(path, follow_links=follow_links) as (file, size):
        if MAPPED_FROM < size <= limit and sys.byteorder == "little":
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    return read_regular(path, limit, follow_links=follow_links)
