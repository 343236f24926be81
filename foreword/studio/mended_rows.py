"""Answers that people mended: collected beside the run, then taken into its data by ``foreword feedback``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foreword.errors import SettingsError
from foreword.storage import write_atomically
from foreword.studio import processes
from foreword.studio.run_folders import RunFolder

_FILE = "corrections.jsonl"
_JOB = "feedback-process"
_LEAST = 1


def pending(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Row id -> the correction that was not taken in yet."""
    try:
        lines = (run.folder / _FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    records = [json.loads(line) for line in lines if line.strip()]
    return {record["id"]: record for record in records}


def correct(run: RunFolder, ident: str, shown: str, gold: str, wrong_gold: str) -> None:
    """Note the right answer of a row; the one that it has already takes the note back."""
    records = pending(run)
    records.pop(ident, None)
    if gold and gold != wrong_gold:
        records[ident] = {"id": ident, "input": shown, "gold": gold}
    _write(run, records)


def add_row(run: RunFolder, fields: dict[str, str], gold: str) -> None:
    """Note a row that the data do not have, with its right answer; it goes to the training rows."""
    records = pending(run)
    ident = f"tried-{len(records) + 1}-{abs(hash(tuple(fields.items()))) % 10**6}"
    _write(run, {**records, ident: {"id": ident, "input": fields, "gold": gold}})


def _write(run: RunFolder, records: dict[str, dict[str, Any]]) -> None:
    lines = [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records.values()]
    write_atomically(run.folder / _FILE, lines)


def job(run: RunFolder) -> Path:
    """The folder of the process that takes corrections in."""
    return run.folder / _JOB


def take_in(run: RunFolder) -> None:
    """Start ``foreword feedback`` with what was corrected. Raises SettingsError where nothing was."""
    if len(pending(run)) < _LEAST:
        raise SettingsError("no row was corrected", hint="choose the right answer in a row first")
    folder = job(run)
    folder.mkdir(exist_ok=True)
    taken = folder / _FILE
    write_atomically(taken, (run.folder / _FILE).read_bytes())
    processes.start(folder, "foreword", ["feedback", str(run.inner), str(taken), "--json"])
    (run.folder / _FILE).unlink()


def version_folder(run: RunFolder) -> Path | None:
    """The data version in force, where corrections were taken in."""
    try:
        versions = json.loads((run.inner / "feedback" / "versions.json").read_text(encoding="utf-8"))["versions"]
    except (OSError, ValueError, KeyError):
        return None
    folder = run.inner / "feedback" / f"v{len(versions)}"
    return folder if folder.is_dir() else None
