"""``foreword ls [FOLDER]``: the forewords in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError

GROUP = "Use"
EXAMPLE = "foreword ls runs"


def command(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to look.")] = Path("."),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """List the .foreword files in a folder."""
    if not folder.is_dir():
        raise SettingsError("there is no such folder", where=str(folder))
    with work():
        from foreword import api

        found = api.ls(folder)
    if not found and not json:
        print(f"no .foreword file in {folder}")
    else:
        show(found, json)
    return 0
