"""``foreword feedback RUN ROWS``: corrected rows into a run's data, and what its foreword makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError

GROUP = "Train"
EXAMPLE = "foreword feedback run corrected.jsonl"


def command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.")],
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="Corrected rows: data, or predictions with `gold`.")],
    base: options.Base = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Take corrected rows into a run's data.

    They make a new version of the data, and the run's foreword is evaluated on them.
    """
    if not folder.is_dir():
        raise SettingsError("there is no such run", where=str(folder), expected="the folder of a training run")
    with work(loads=True) as progress:
        from foreword import api

        result = api.feedback(folder, rows, base=base, progress=progress)
    show(result, json)
    return 0
