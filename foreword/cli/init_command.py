"""``foreword init [DATA]``: a settings file to begin with, every line of it explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.messages import Message, say_if_known
from foreword.storage import write_atomically

GROUP = "Data"
EXAMPLE = "foreword init reviews.csv --output task.yaml\nforeword train --config task.yaml"


def command(
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help="A data file to describe.")] = None,
    output: Annotated[Path, typer.Option(metavar="YAML", help="The file to write.")] = Path("task.yaml"),
    base: Annotated[str | None, typer.Option(metavar="BASE", help="Base model to name in the file.")] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Write a commented settings file, filled in from a data file."""
    if output.exists():
        raise SettingsError("there is such a file already", where=str(output), hint="name another one with --output")
    with work():
        from foreword.runs.prepare.settings_template import settings_template

        text, notes = settings_template(data, base)
    write_atomically(output, text.encode("utf-8"))
    if json:
        show({"file": str(output), "notes": notes}, True)
    else:
        written = Message("wrote {output}: read it through, then foreword train --config {output}", output=output)
        print("\n".join(map(say_if_known, [*notes, written])))
    return 0
