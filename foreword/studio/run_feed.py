"""What a run tells while it works, as server-sent events made from its append-only log.

An event's id is how much of ``trainer_log.jsonl`` it stands behind, so that a browser that comes back, or comes late,
is told exactly what it has not seen. A log that was mended (steps that a resumed run does again) is another file: then
the browser is told to forget what it has, and everything is told again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

from foreword.messages import template
from foreword.studio import processes
from foreword.studio.run_folders import RunFolder

LOG = "trainer_log.jsonl"
PAUSE = 0.2
_MOST = 1 << 20
_KEEP_ALIVE = 15.0
_PHASE = re.compile(r"^(?P<name>\S.*?) (?P<done>\d+)/(?P<total>\d+)(?P<rest>( .*)?)$")


async def events(run: RunFolder, last_id: str = "", language: str = "en") -> AsyncIterator[str]:
    """Server-sent events until the run has ended: ``reset``, ``points``, ``status``, and ``end``."""
    seen, told, quiet = last_id, "", 0.0
    if last_id and _position(run, last_id) is None:
        yield _event("reset", {})
        seen = ""
    while True:
        # The state first: what was written before a run ended is told before its end is.
        state = await asyncio.to_thread(lambda: run.state)
        while True:
            if _position(run, seen) is None:
                yield _event("reset", {})
                seen = ""
            points, seen = await asyncio.to_thread(read_points, run, seen)
            if not points:
                break
            yield _event("points", points, seen)
            quiet = 0.0
        status = await asyncio.to_thread(status_of, run, state, language)
        if (line := _event("status", status)) != told:
            yield line
            told, quiet = line, 0.0
        if state != "running":
            yield _event("end", {"state": state})
            return
        await asyncio.sleep(PAUSE)
        quiet += PAUSE
        if quiet > _KEEP_ALIVE:
            yield ": still here\n\n"
            quiet = 0.0


def read_points(run: RunFolder, seen: str) -> tuple[list[dict[str, Any]], str]:
    """The whole lines of the log behind ``seen``, and what has been seen then."""
    position = _position(run, seen) or 0
    try:
        with (run.inner / LOG).open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(position)
            content = file.read(_MOST)
    except OSError:
        return [], seen
    whole = content[: content.rfind(b"\n") + 1]
    points = []
    for line in whole.splitlines():
        try:
            points.append(json.loads(line))
        except ValueError:
            continue
    return points, f"{inode}-{position + len(whole)}"


def _position(run: RunFolder, seen: str) -> int | None:
    """How far into the log an id stands; None where the log is another one by now."""
    if not seen:
        return 0
    inode, _, offset = seen.partition("-")
    try:
        found = (run.inner / LOG).stat()
    except OSError:
        return None
    same = inode == str(found.st_ino) and offset.isdigit() and int(offset) <= found.st_size
    return int(offset) if same else None


def status_of(run: RunFolder, state: str, language: str = "en") -> dict[str, Any]:
    """The run's state, its phases as they were last told, and what it said beside them."""
    lines = processes.log_end(run.folder).splitlines()[-200:]
    phases: dict[str, dict[str, Any]] = {}
    said: list[str] = []
    for line in lines:
        match = _PHASE.match(line)
        if match:
            phases.pop(match["name"], None)
            phases[match["name"]] = _phase(match, language)
        elif line.strip() and not line.startswith(("Loading weights", "Writing model")):
            said.append(line.strip()[:300])
    return {"state": state, "phases": list(phases.values())[-6:], "said": said[-5:]}


def _phase(match: re.Match[str], language: str) -> dict[str, Any]:
    """A line of progress: ``train 3/35 loss 0.93 eta 4s``."""
    before, _, eta = match["rest"].partition(" eta ")
    figures: dict[str, str] = {}
    name: list[str] = []
    for word in before.split():
        if re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?|nan|inf", word):
            figures[" ".join(name)] = word
            name = []
        else:
            name.append(word)
    return {
        "name": template(match["name"], language) or match["name"],
        "done": int(match["done"]),
        "total": int(match["total"]),
        "eta": eta.strip(),
        "figures": figures,
    }


def _event(kind: str, value: Any, ident: str = "") -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=str) if value != [] else "[]"
    return (f"id: {ident}\n" if ident else "") + f"event: {kind}\ndata: {text}\n\n"
