"""Runs in the workspace: starting one, what state it is in, what it became."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from foreword.errors import SettingsError
from foreword.evaluation.report.verdict_text import ANSWERS
from foreword.settings.yaml import to_yaml
from foreword.storage import write_atomically
from foreword.studio import processes
from foreword.studio.bases import short_name
from foreword.studio.workspace import Workspace

State = Literal["running", "finished", "failed", "stopped"]
INSIDE = "run"
_NOTES = "notes.json"
COMMANDS = ("train", "compare", "search")


@dataclass(frozen=True)
class RunFolder:
    """A run: ``folder`` is the workspace's, ``inner`` the one that the command writes."""

    name: str
    folder: Path

    @property
    def inner(self) -> Path:
        """The run's own folder."""
        return self.folder / INSIDE

    @property
    def record(self) -> dict[str, Any]:
        """What was started: ``command``, ``data``, ``base``, ``method``, ``parent``, ``started``."""
        return processes.record(self.folder)

    @property
    def command(self) -> str:
        """``train``, ``compare`` or ``search``."""
        return str(self.record.get("command", "train"))

    @property
    def base(self) -> str:
        """The base's short name."""
        return short_name(str(self.record.get("base", "")))

    @property
    def state(self) -> State:
        """Whether it runs, and how it ended where it does not."""
        if processes.runs(self.folder):
            return "running"
        if self.error:
            return "stopped" if self.error.get("error") == "Interrupted" else "failed"
        return "finished" if processes.output(self.folder) and (self.inner / "report.json").exists() else "stopped"

    @property
    def error(self) -> dict[str, Any]:
        """The error that it ended with, as the command printed it; empty where there is none."""
        result = processes.output(self.folder)
        return result if "error" in result and "exit_code" in result else {}

    @property
    def report(self) -> dict[str, Any]:
        """``report.json``; empty until there is one."""
        path = self.inner / "report.json"
        try:
            return _report(path, path.stat().st_mtime_ns)
        except OSError:
            return {}

    @property
    def answer(self) -> str:
        """The verdict in three words; "" until there is one."""
        state = self.report.get("state")
        return str(ANSWERS[state]) if state in ANSWERS else ""

    @property
    def file(self) -> Path | None:
        """The foreword that was learned."""
        path = self.inner / "model.foreword"
        return path if path.is_file() else None

    @property
    def notes(self) -> dict[str, str]:
        """``tags`` and ``note``, as people wrote them."""
        try:
            return {"tags": "", "note": "", **json.loads((self.folder / _NOTES).read_text(encoding="utf-8"))}
        except (OSError, ValueError):
            return {"tags": "", "note": ""}

    def write_notes(self, tags: str, note: str) -> None:
        """Keep them."""
        content = json.dumps({"tags": tags[:200], "note": note[:4000]}, ensure_ascii=False)
        write_atomically(self.folder / _NOTES, [content.encode()])


@lru_cache(maxsize=64)
def _report(path: Path, stamp: int) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def find_run(workspace: Workspace, name: str) -> RunFolder:
    """A run by its name. Raises NotThere."""
    return RunFolder(name, workspace.folder("runs", name))


def all_runs(workspace: Workspace) -> list[RunFolder]:
    """Every run, the newest first."""
    found = [RunFolder(name, workspace.root / "runs" / name) for name in workspace.names("runs")]
    return sorted(found, key=lambda run: -float(run.record.get("started") or 0.0))


def start_run(
    workspace: Workspace, wanted: str, command: str, settings: Mapping[str, Any], more: tuple[str, ...] = (),
    **facts: Any,
) -> RunFolder:  # fmt: skip
    """Start a command as a process of its own, its settings in a file that says all of it.

    Args:
        wanted: what to call the run.
        command: one of ``COMMANDS``.
        settings: as in a settings file.
        more: flags beside them.
        facts: to be shown with the run: ``data``, ``base``, ``method``, ``parent``.

    Raises:
        SettingsError: no such command.
    """
    if command not in COMMANDS:
        raise SettingsError("the studio starts no such command", received=command, expected=", ".join(COMMANDS))
    folder = workspace.new("runs", wanted)
    file = folder / "settings.yaml"
    write_atomically(file, [to_yaml({**settings, "output_dir": str(folder / INSIDE)}).encode()])
    arguments = [command, "--config", str(file), "--json", *more]
    processes.start(folder, "foreword", arguments, command=command, **facts)
    return RunFolder(folder.name, folder)


def resume_run(run: RunFolder) -> None:
    """Go on with a run that was stopped; one that had not begun yet begins anew. Raises SettingsError while it runs."""
    facts = {key: value for key, value in run.record.items() if key not in ("arguments", "module", "pid", "started")}
    begun = any((run.inner / name).exists() for name in ("run.json", "compare.json", "search.json"))
    again = [run.command, "--resume", str(run.inner), "--json"]
    arguments = again if begun else list(run.record.get("arguments", again))
    processes.start(run.folder, "foreword", arguments, **facts)
