"""``foreword reproduce report.json``: do it again, and say whether it agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Compare"
EXAMPLE = "foreword reproduce run"


def command(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="The report.json of a comparison or a run.")],
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the new run. [default: one beside the report]")
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Run a report's settings again. Exits 1 when the new figures do not agree with the old."""
    with work(loads=True) as progress:
        from foreword.studies.compare.reproduce import reproduce

        result = reproduce(report, output_dir, progress)
    show(result, json)
    return 0 if result.agrees else 1
