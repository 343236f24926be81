"""The folder of a new run: never written into when something is there, unless the user says so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foreword.cli.output import speaks
from foreword.errors import SettingsError

RUN_FILES = (
    "run.json",
    "settings.yaml",
    "trainer_log.jsonl",
    "report.json",
    "model.foreword",
    "search.json",
    "compare.json",
    "folds.json",
)


@contextmanager
def claimed(output_dir: str | Path, overwrite: bool) -> Iterator[Path]:
    """The folder, free for a new run while the block runs.

    With ``overwrite`` an earlier run is set aside, removed once the new run has written something, and put back
    when it has not: a run that is refused before it starts costs nothing.

    Raises:
        SettingsError: something is there already, or ``overwrite`` would remove what is not a run.
    """
    folder = Path(output_dir).resolve()
    if not speaks() or not _occupied(folder):
        yield folder
        return
    if not overwrite:
        raise SettingsError(
            "the output folder is not empty",
            where=str(output_dir),
            hint=f"go on with that run: --resume {output_dir}; replace it: --overwrite; or name another folder",
        )
    if not _is_run(folder) or Path.cwd().is_relative_to(folder):
        raise SettingsError(
            "--overwrite replaces the folder of an earlier run only",
            where=str(output_dir),
            hint="empty the folder yourself, or name another one",
        )
    aside = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    try:
        yield folder
    finally:
        if _occupied(folder):
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)


def _occupied(folder: Path) -> bool:
    if folder.is_dir():
        return any(folder.iterdir())
    return folder.exists()


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).exists() for name in RUN_FILES)
