"""``foreword explain FILE DATA``: what a foreword says and does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Compare"
EXAMPLE = "foreword explain run/model.foreword reviews.csv"


def command(
    file: options.ForewordFile,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Rows with right answers. [default: the file's golden rows]")
    ] = None,
    base: options.Base = None,
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the card here; a run's report there gets it as a section.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows to ask, at most.", min=4)] = 64,
    json: options.Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every figure; the traceback of an error.")] = False,
) -> int:
    """Explain what a foreword says and does.

    Nearest words, a text that answers like it, what each part is worth, attention.
    """
    with work(loads=True) as progress:
        from foreword.studies.explain.explain import explain

        result = explain(file, data, base=base, output_dir=output_dir, rows=rows, progress=progress)
    if verbose and not json:
        print(result.details())
    else:
        show(result, json)
    return 0
