"""``foreword base DATA... --cell lstm --output-dir DIR``: train a base from scratch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.layers import resolve
from foreword.settings.schema import SCRATCH

GROUP = "Train"
EXAMPLE = "foreword base reviews.csv --cell lstm --output-dir own-base"


def command(
    context: typer.Context,
    files: Annotated[list[str] | None, typer.Argument(metavar="DATA...", help="One or more data files.")] = None,
    cell: Annotated[str, typer.Option(metavar="NAME", help="lstm or gru.")] = "lstm",
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the base.")] = None,
    dev: options.Dev = None,
    **shared: Unpack[options.TaskFlags],
) -> int:
    """Train an LSTM or GRU from scratch on data files.

    Any command takes the folder as --base.
    """
    flags = {key: value for key, value in options.settings(context).items() if key not in ("files", "cell")}
    first = {"data": files[0]} if files else {}
    resolved = resolve(shared["config"], {**flags, **first, "base": cell}, shared["set"] or ())
    keys = resolved.keys
    data = files or ([keys.data] if keys.data else [])
    for name, given in (("DATA", data), ("--output-dir", keys.output_dir)):
        if not given:
            raise SettingsError(
                Message("{name} is missing", name=name), hint="foreword base DATA --cell lstm --output-dir DIR"
            )
    if cell not in SCRATCH:
        raise SettingsError("there is no such cell", where="--cell", expected=" or ".join(SCRATCH), received=cell)
    if keys.dev is not None and len(data) > 1:
        raise SettingsError("--dev goes with one data file", where="--dev", received=f"{len(data)} data files")
    request = resolved.request()
    with work() as progress:
        from foreword import api

        result = api.base(replace(request, progress=progress), data)
    show(result, shared["json"])
    return 0
