"""``foreword check DATA``: every problem of the data at once."""

from __future__ import annotations

from typing import Annotated, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import DataError, SettingsError
from foreword.settings.layers import resolve

GROUP = "Data"
EXAMPLE = "foreword check reviews.csv --labels good=positive,bad=negative"


def command(
    context: typer.Context,
    data: options.DataFile = None,
    dev: options.Dev = None,
    test: options.Test = None,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="Also check lengths and label words for this base model.")
    ] = None,
    first_k: options.InputPrefix = None,
    **shared: Unpack[options.TaskFlags],
) -> int:
    """Check a data file: fields, labels, duplicates, lengths. Exits 3 when the data would be refused."""
    resolved = resolve(shared["config"], options.settings(context), shared["set"] or ())
    keys = resolved.keys
    if keys.data is None:
        raise SettingsError("DATA is missing", hint="foreword check DATA")
    with work():
        from foreword import api

        report = api.check(
            keys.data,
            dev=keys.dev,
            test=keys.test,
            task_options=resolved.task_options,
            base=keys.base,
            skip_bad=keys.skip_bad,
            encoding=keys.encoding,
        )
    show(report, shared["json"])
    return DataError.exit_code if report.refuses and not keys.skip_bad else 0
