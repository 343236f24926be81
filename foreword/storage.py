"""The disk: files that are written whole or not at all, never over an input; the cache; digests; a folder's lock.

``FOREWORD_CACHE`` names the cache; without it ``~/.cache/foreword`` is used. A folder in it is whole: a kill while it
is being built leaves only a ``.partial-`` folder, which a later build removes after a day.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from foreword.errors import ForewordError, ResourceError, SettingsError
from foreword.messages import Message

_STALE_SECONDS = 24 * 3600.0
_BLOCK = 4 * 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}
LOCK = "run.lock"
"""The file in a run's folder that says which process is at work there."""

_inputs: ContextVar[tuple[Path, ...]] = ContextVar("inputs", default=())
_locked: ContextVar[frozenset[Path]] = ContextVar("locked", default=frozenset())


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
                expected=Message("{value:.0f} MB", value=needs_bytes / 1000000.0),
                received=f"{free / 1e6:.0f} MB",
                hint="free some space, or name another folder with FOREWORD_CACHE",
            )
        folder = Path(tempfile.mkdtemp(prefix=f".partial-{target.name}-", dir=target.parent))
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(target.parent, needs_bytes) from error
        raise ResourceError(
            Message("the cache cannot be written to: {error}", error=error),
            where=str(target.parent),
            hint="name another folder with FOREWORD_CACHE",
        ) from error
    try:
        with explained(target):
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


def write_atomically(
    path: str | Path, data: bytes | Iterable[bytes | memoryview], check: Callable[[Path], object] | None = None
) -> None:
    """Write a file so that every reader, also after a crash, sees the old content or the new, never a part.

    The bytes go to a new file in the same folder, to the disk, and then take the name. Missing folders are made. A
    link is followed; a pipe or a device is written to directly.

    Args:
        path: where to write.
        data: the bytes, whole or piece by piece.
        check: asked about the new file before it takes the name; what it raises leaves the old one.

    Raises:
        SettingsError: ``path`` is one of the inputs (:func:`protecting`).
        ResourceError: the disk is full.
        ForewordError: the file cannot be written. What was there before is untouched, in every case.
    """
    target = Path(path)
    refuse_overwriting(target, _inputs.get())
    pieces: Iterable[bytes | memoryview] = [data] if isinstance(data, bytes) else data
    with explained(target):
        if target.exists() and not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
            with target.open("wb") as file:
                file.writelines(pieces)
            return
        target = Path(os.path.realpath(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        try:
            # Made with 0o666 so that the user's umask decides, as for any other file.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Errors of the disk inside the block, those of libraries too, as ours: ``path`` is what is being written.

    Raises:
        ResourceError: the disk is full.
        ForewordError: anything else that the system refuses.
    """
    try:
        yield
    except ForewordError:
        raise
    except Exception as error:
        if is_full(error):
            raise disk_full(path) from error
        if isinstance(error, OSError):
            raise ForewordError(
                Message("the file cannot be written ({value})", value=error.strerror or error),
                where=os.fspath(path),
                hint="check the free space and the permissions of the folder",
            ) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full; safetensors and others say it in words only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    text = str(error)
    return "No space left on device" in text or "Disk quota exceeded" in text


def disk_full(path: str | Path, needs_bytes: int = 0) -> ResourceError:
    """The error for a full disk: how much is free, and what stays usable."""
    folder = Path(path)
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return ResourceError(
        "no space is left on the disk",
        where=os.fspath(path),
        expected=Message("{needs_bytes:,} bytes", needs_bytes=needs_bytes) if needs_bytes else "more free space",
        received=f"{free:,} bytes free",
        hint="free some space; what was written before is whole, and an interrupted run goes on with --resume",
    )


@contextmanager
def protecting(paths: Iterable[object]) -> Iterator[None]:
    """Inside the block :func:`write_atomically` refuses to write over any of the files among ``paths``."""
    given = tuple(Path(path) for path in paths if isinstance(path, str | Path) and _exists(path, os.path.isfile))
    token = _inputs.set((*_inputs.get(), *given))
    try:
        yield
    finally:
        _inputs.reset(token)


def _exists(path: str | Path, test: Callable[[str | Path], bool] = os.path.exists) -> bool:
    try:
        return test(path)
    except ValueError:  # a text with a null byte
        return False


def refuse_overwriting(output: str | Path, inputs: Iterable[object]) -> None:
    """Refuse an output that is one of the inputs: by its path, through links, or by a name that differs in case only.

    Args:
        inputs: paths; a folder stands for the files in it. What is no path, such as rows in memory, is passed over.

    Raises:
        SettingsError: names both.
    """
    for given in inputs:
        if isinstance(given, str | Path) and _exists(given) and _same(Path(output), Path(given)):
            raise SettingsError(
                "this would write over an input",
                where=os.fspath(output),
                received=os.fspath(given),
                hint="name another file for the output",
            )


def _same(output: Path, given: Path) -> bool:
    if output.exists() and given.exists() and os.path.samefile(output, given):
        return not output.is_dir() or output.resolve() != Path.cwd()
    there, here = Path(os.path.realpath(output)), Path(os.path.realpath(given))
    if given.is_dir():
        return output.exists() and here in there.parents
    return there.parent == here.parent and there.name.casefold() == here.name.casefold()


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """This process alone is at work in ``folder`` inside the block; ``run.lock`` in it says which process that is.

    The lock belongs to the opened file, so it ends with its process, however that ends; a file that was left behind
    locks nothing. A block inside the block, of the same thread, is part of it. The folder is made, and removed again
    where nothing was written.

    Raises:
        SettingsError: another process is at work there; says which.
    """
    place = Path(os.path.realpath(folder))
    if place in _locked.get():
        yield
        return
    new = not place.exists()
    with explained(place / LOCK):
        place.mkdir(parents=True, exist_ok=True)
        descriptor = _take(place / LOCK)
    token = _locked.set(_locked.get() | {place})
    try:
        yield
    finally:
        _locked.reset(token)
        (place / LOCK).unlink(missing_ok=True)
        os.close(descriptor)
        if new and place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def refuse_locked(folder: str | Path) -> None:
    """Refuse a folder in which another process is at work; nothing is written. Raises SettingsError."""
    path = Path(os.path.realpath(folder)) / LOCK
    if path.parent not in _locked.get() and path.exists():
        os.close(_take(path))


def _take(path: Path) -> int:
    """The descriptor of the lock file, which holds the lock until it is closed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            held = _held(descriptor)
            if not held:
                # The process before may have removed the file between the opening and the lock.
                if not path.exists() or os.fstat(descriptor).st_ino != path.stat().st_ino:
                    os.close(descriptor)
                    continue
                record = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(record).encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        record = _record_of(descriptor)
        os.close(descriptor)
        raise SettingsError(
            "another process is at work in this folder",
            where=str(path.parent),
            received=f"process {record.get('pid')} on {record.get('host')}, since {record.get('since')}",
            hint=Message(
                "wait until it has finished, stop it, or name another folder; where that machine is "
                "gone for good, remove {path}",
                path=path,
            ),
        )


def _held(descriptor: int) -> bool:
    """Whether another process has the lock; this one has it now where not."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: the record alone tells
        record = _record_of(descriptor)
        return bool(record) and (record.get("host") != socket.gethostname() or _alive(record.get("pid")))
    return False


def _record_of(descriptor: int) -> dict[str, object]:
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
