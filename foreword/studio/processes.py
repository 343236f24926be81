"""A command as a process of its own that outlives the studio, and what its folder says of it.

``lock`` is held by the process for as long as it lives: whether it runs can be seen by anybody, also after a restart,
and no other process can be mistaken for it. ``command.json`` is what was started, ``log`` standard error (appended
to), ``output`` standard output: one JSON document, a result or an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foreword.errors import SettingsError
from foreword.storage import write_atomically

_RECORD, _LOCK, _LOG, _OUTPUT = "command.json", "lock", "log", "output"
_started: list[subprocess.Popen[bytes]] = []


def start(folder: Path, module: str, arguments: Sequence[str], **facts: Any) -> None:
    """Run ``python -m MODULE ARGUMENTS`` in a session of its own, with its record, log and output in ``folder``.

    Args:
        facts: to be kept in the record.

    Raises:
        SettingsError: one runs there already.
    """
    _reap()
    command = [sys.executable, "-m", module, *arguments]
    with (folder / _LOCK).open("ab") as lock, (folder / _LOG).open("ab") as log, (folder / _OUTPUT).open("wb") as out:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError("it runs already", where=folder.name) from error
        # The lock goes with the descriptor: it ends with the last process that has it.
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True,
            pass_fds=(lock.fileno(),), env={**os.environ, "FOREWORD_LANG": "en", "PYTHONPATH": module_path()},
        )  # fmt: skip
    _started.append(process)
    record = {**facts, "arguments": list(arguments), "module": module, "pid": process.pid, "started": time.time()}
    write_atomically(folder / _RECORD, [json.dumps(record, ensure_ascii=False).encode()])


def module_path() -> str:
    """Where modules are found, so that a child finds the same package from any working directory."""
    home = str(Path(__file__).parents[2])
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def record(folder: Path) -> dict[str, Any]:
    """What was started there; empty where nothing was."""
    return _json(folder / _RECORD)


def runs(folder: Path) -> bool:
    """Whether the process of a folder is alive."""
    _reap()
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def stop(folder: Path, how: signal.Signals = signal.SIGINT) -> None:
    """Ask the process to stop, as Ctrl-C does: training saves a checkpoint first."""
    pid = record(folder).get("pid")
    if isinstance(pid, int) and runs(folder):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return


def output(folder: Path) -> dict[str, Any]:
    """The JSON document that the command printed; empty until there is one."""
    return _json(folder / _OUTPUT)


def log_path(folder: Path) -> Path:
    """The file that the process's messages and progress go to."""
    return folder / _LOG


def log_end(folder: Path, most: int = 4000) -> str:
    """The last characters of the log."""
    try:
        with (folder / _LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4 * most))
            return file.read().decode(errors="replace")[-most:]
    except OSError:
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _reap() -> None:
    """Let go of children that have ended."""
    _started[:] = [process for process in _started if process.poll() is None]
