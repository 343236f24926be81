"""``foreword ls [FOLDER]``: the forewords in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foreword.cli import options
from foreword.cli.output import print_json, print_rows, work
from foreword.errors import SettingsError
from foreword.messages import Message, say

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
        print(say(Message("no .foreword file in {folder}", folder=folder)))
    elif json:
        print_json(found)
    else:
        print_rows([_line(row) for row in found])
    return 0


def _line(row: dict[str, Any]) -> dict[str, object]:
    """A file as a line of the table: its metrics in words, its size in units that people read."""
    line = dict(row)
    if "bytes" in line:
        line["bytes"] = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] >= 1e5 else f"{row['bytes'] / 1e3:.1f} kB"
    if "metrics" in line:
        line["metrics"] = ", ".join(f"{name} {value:.3g}" for name, value in row["metrics"].items())
    return line
