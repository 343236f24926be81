"""``foreword export FILE --format peft --output-dir DIR``: a foreword in another tool's format."""

from __future__ import annotations

from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work


def command(
    file: options.ForewordFile,
    output_dir: Annotated[str, typer.Option(metavar="DIR", help="Folder for the other tool's files.")],
    format: Annotated[str, typer.Option(metavar="NAME", help="The format: peft.")] = "peft",
    base: options.Base = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Write a foreword in another tool's format; the base is loaded to make sure that it fits."""
    with work() as progress:
        from foreword.export.convert import export

        result = export(file, output_dir, format=format, base=base, progress=progress)
    show(result, json)
    return 0
