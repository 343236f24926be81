"""``foreword evaluate FILE DATA``: how good a foreword is on a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work


def command(
    file: options.ForewordFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file with the right answers.")],
    base: options.Base = None,
    output: Annotated[Path | None, typer.Option(metavar="JSONL", help="Write one prediction a line.")] = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another metric. May be repeated.")] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Evaluate a foreword on a data file, with confidence intervals."""
    with work() as progress:
        from foreword import run

        result = run.evaluate(file, data, base=base, output=output, metrics=tuple(metric or ()), progress=progress)
    show(result, json)
    return 0
