"""Start a server and stay until it is told to stop."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from foreword.artifact.peek import peek
from foreword.core.base.load import Base
from foreword.core.base.precision import readable
from foreword.errors import ForewordError, SettingsError
from foreword.runs.prepare.base import find_base
from foreword.serve.app.create_app import FINISH_SECONDS, create_app
from foreword.serve.app.settings import ServeSettings
from foreword.serve.engine.engine import EngineLimits
from foreword.settings.schema import ProgressCall


class _Lines(logging.Formatter):
    """One line a record: words for people, or one JSON object."""

    def __init__(self, machine: bool) -> None:
        super().__init__()
        self._machine = machine

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = getattr(record, "fields", {})
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._machine:
            when = {"time": round(record.created, 3), "level": record.levelname.lower()}
            extra = {"trace": trace} if trace else {}
            return json.dumps({**when, "event": record.getMessage(), **told, **extra}, ensure_ascii=False, default=str)
        words = [time.strftime("%H:%M:%S", time.localtime(record.created)), record.getMessage()]
        line = " ".join([*words, *(f"{name}={value}" for name, value in told.items())]).replace("\n", " ")
        return f"{line}\n{trace}" if trace else line


def _log_to_stderr(machine: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(machine))
    for name, level in (("foreword.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def settings_of(files: Sequence[str | Path], **settings: Any) -> ServeSettings:
    """Settings of a server by their names, those of the engine's limits among them.

    Raises:
        SettingsError: one that is unknown or out of range, or a file that is not there.
    """
    paths = tuple(Path(file) for file in files)
    for path in paths:
        if not path.exists():
            raise SettingsError(
                "no such file or folder", where=str(path), hint="give .foreword files or a folder of them"
            )
    limits = {field.name for field in fields(EngineLimits)}
    own = {field.name for field in fields(ServeSettings)} - {"files", "limits"}
    unknown = settings.keys() - limits - own
    if unknown:
        raise SettingsError(
            "unknown setting of a server", expected=", ".join(sorted(limits | own)), received=min(unknown)
        )
    chosen = EngineLimits(**{name: value for name, value in settings.items() if name in limits})
    rest = {name: value for name, value in settings.items() if name in own}
    return ServeSettings(files=paths, limits=chosen, **rest)


def base_for(
    files: Sequence[Path],
    base: str | Base | None,
    progress: ProgressCall | None,
    device: str = "auto",
    dtype: str | None = None,
) -> Base:
    """The base to serve on: the one that is given, or the one that the first file was trained on.

    Args:
        dtype: default: the precision that the first file was trained in.

    Raises:
        SettingsError: neither is there.
        BaseError: it cannot be loaded.
    """
    if isinstance(base, Base):
        return base
    listed = [path for one in files for path in (sorted(one.glob("*.foreword")) if one.is_dir() else [one])]
    if base is None and not listed:
        raise SettingsError("no base to serve on", hint="give --base, or a .foreword file that names one")
    if not listed:
        return find_base(str(base), device=device, dtype=dtype or "auto", progress=progress)
    manifest = peek(listed[0]).manifest
    # An encoder keeps its language head where a template has a mask for it to fill.
    masked = "{{ mask }}" in str(manifest.task.get("template", ""))
    record, trained = manifest.base, readable(manifest.dtype, device)
    how: dict[str, Any] = {"device": device, "dtype": dtype or trained, "task_head": masked, "progress": progress}
    if base is not None:
        return find_base(base, **how)
    return find_base(record.id, revision=record.revision, **how)


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """uvicorn stops on Ctrl-C and SIGTERM in good order and then raises the signal once more, which is no news."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda number, frame: None) if main else None
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _run(app: FastAPI, chosen: ServeSettings, url: str) -> None:
    """Answer until the process is told to stop. Raises ForewordError where it cannot start."""
    config = uvicorn.Config(
        app, host=chosen.host, port=chosen.port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=int(FINISH_SECONDS),
    )  # fmt: skip
    try:
        with _stopped_in_order():
            uvicorn.Server(config).run()
    except SystemExit as error:
        app.state.service.engine.stop(finish=False)
        raise ForewordError(
            f"the server could not start on {url}", hint="is the port taken? choose another --port"
        ) from error


def serve(
    files: Sequence[str | Path] = (),
    *,
    base: str | Base | None = None,
    device: str = "auto",
    dtype: str | None = None,
    json_logs: bool = False,
    progress: ProgressCall | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Serve forewords on one base until the process is told to stop (Ctrl-C, SIGTERM); rows that run are finished.

    Args:
        files: ``.foreword`` files, and folders of them, which are watched.
        base: default: the one that the first file was trained on.
        device, dtype: as for ``load_base``; default: CUDA where there is one, and the first file's precision.
        json_logs: one JSON object a line on standard error.
        settings: fields of ``ServeSettings`` and ``EngineLimits``.

    Returns:
        ``url``, tokens that were written, rows that were scored.

    Raises:
        SettingsError: a setting that cannot be; an address that others can reach, without keys.
        ForewordError: the base or a file cannot be served, or the port is taken.

    >>> from foreword.api import serve
    >>> serve(["model.foreword"], host="0.0.0.0")  # others could reach it: that needs keys
    Traceback (most recent call last):
    foreword.errors.SettingsError: ...
    """
    chosen = settings_of(files, **settings)
    _log_to_stderr(json_logs)
    app = create_app(base_for(chosen.files, base, progress, device, dtype), chosen)
    service = app.state.service
    url = f"http://{f'[{chosen.host}]' if ':' in chosen.host else chosen.host}:{chosen.port}"
    names, writes = service.library.names(), service.engine.writes
    facts = {"url": url, "base": service.base.id, "forewords": len(names), "writes": writes}
    logging.getLogger("foreword.serve").info("serving", extra={"fields": facts})
    _run(app, chosen, url)
    stats = service.engine.stats
    return {"url": url, "tokens_written": stats.tokens_written, "rows_scored": stats.rows_scored}
