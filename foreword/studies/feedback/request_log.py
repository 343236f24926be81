"""What a server was asked and answered, in one SQLite file: written where somebody asked for it, for so many days.

It holds text of users. Only its owner can read the file; old rows are deleted, not marked. Corrections that come back
(``POST /v1/feedback`` with ``correction``) stand beside the answers, and ``foreword feedback`` learns from them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreword.errors import DataError, SettingsError

MAGIC = b"SQLite format 3\x00"
_DAY, _CLEAN_EVERY = 86400.0, 256
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    id TEXT PRIMARY KEY, time REAL NOT NULL, model TEXT NOT NULL, fields TEXT NOT NULL, output TEXT NOT NULL,
    score REAL, correction TEXT
)"""


class RequestLog:
    """Rows of ``answers``; safe to use from any thread.

    Args:
        path: the file; made readable for its owner alone.
        days: that a row stays.

    Raises:
        SettingsError: it cannot be written, or is another file.
    """

    def __init__(self, path: Path, days: float = 30) -> None:
        self.days = days
        self._lock, self._written = threading.Lock(), 0
        try:
            if not path.exists():
                path.touch(mode=0o600)
            self._file = sqlite3.connect(path, check_same_thread=False)
            # What is deleted is overwritten.
            self._file.execute("PRAGMA secure_delete = ON")
            self._file.execute(_TABLE)
            self._clean()
        except (OSError, sqlite3.Error) as problem:
            raise SettingsError(
                f"no log of requests: {problem}", where="--request-log", received=str(path)
            ) from problem

    def add(self, answer: str, model: str, fields: dict[str, Any], output: str) -> None:
        """One answer; ``fields`` are the row's."""
        row = (answer, time.time(), model, json.dumps(fields, ensure_ascii=False, default=str), output)
        with self._lock, self._file:
            self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, NULL, NULL)", row)
            self._written += 1
            if self._written % _CLEAN_EVERY == 0:
                self._clean()

    def _clean(self) -> None:
        with self._file:
            self._file.execute("DELETE FROM answers WHERE time < ?", (time.time() - self.days * _DAY,))

    def note(self, answer: str, score: float | None, correction: str | None) -> bool:
        """What somebody thought of an answer; False where it is not there (any more)."""
        with self._lock, self._file:
            done = self._file.execute(
                "UPDATE answers SET score = coalesce(?, score), correction = coalesce(?, correction) WHERE id = ?",
                (score, correction, answer),
            )
        return done.rowcount > 0

    def close(self) -> None:
        """Nothing is written any more."""
        with self._lock:
            self._file.close()


def is_request_log(path: Path) -> bool:
    """Whether a file is a log of requests."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def corrected(path: Path, target: str) -> Iterator[dict[str, Any]]:
    """The rows with a correction, each with it under ``target``, the oldest first.

    Raises:
        DataError: another file.
    """
    try:
        file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = file.execute("SELECT fields, correction FROM answers WHERE correction NOT NULL ORDER BY time")
            for fields, correction in rows.fetchall():
                yield {**json.loads(fields), target: correction}
        finally:
            file.close()
    except (sqlite3.Error, ValueError, TypeError) as problem:
        raise DataError(f"this is no log of requests: {problem}", where=str(path)) from problem
