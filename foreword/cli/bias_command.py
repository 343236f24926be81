"""``foreword bias FILE DATA`` or ``foreword bias DATA --base BASE``: what changes an answer that should not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.settings.layers import flag_of, resolve

_OWN = ("file", "data", "lists", "rows", "tolerance", "output_dir", "seed", "base")

GROUP = "Compare"
EXAMPLE = "foreword bias run/model.foreword reviews.csv"


def command(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A .foreword file; without one the prompt is probed.")
    ] = None,
    data: options.DataFile = None,
    base: options.Base = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Write the report and the rows here.")] = None,
    lists: Annotated[Path | None, typer.Option(metavar="YAML", help="Your own lists of words.")] = None,
    rows: Annotated[int, typer.Option(help="Rows to probe with, at most.", min=2)] = 200,
    tolerance: Annotated[float, typer.Option(help="Share of rows that may change.", min=0.0, max=1.0)] = 0.05,
    chat: options.Chat = None,
    seed: Annotated[int, typer.Option(help="Of the rows and orders that are drawn.")] = 13,
    **shared: Unpack[options.TaskFlags],
) -> int:
    """Find what changes an answer that should not.

    Probes a foreword or a prompt with other names, genders, regions, orders and wordings, and no input at all.
    """
    if data is None:
        file, data = None, file
    task = {name: value for name, value in options.settings(context).items() if name not in _OWN}
    if file is not None and (task or shared["config"] is not None or shared["set"]):
        given = [*task, *(name for name in ("config", "set") if context.params[name])]
        received = ", ".join(map(flag_of, given))
        raise SettingsError("a file knows its own task", where=file, received=received, hint="leave these out")
    if data is None:
        raise SettingsError("DATA is missing", hint="foreword bias FILE DATA, or foreword bias DATA --base BASE")
    with work(loads=True) as progress:
        from foreword.studies.bias.bias import BiasSettings, bias

        settings = BiasSettings(lists, rows, tolerance, seed)
        if file is not None:
            result = bias(file, data, settings, base=base, output_dir=output_dir, progress=progress)
        else:
            # The folder of a request is where a run would go; nothing is written there.
            flags = {**task, "data": data, "base": base, "output_dir": output_dir or "."}
            request = replace(resolve(shared["config"], flags, shared["set"] or ()).request(), progress=progress)
            result = bias(request, settings=settings, output_dir=output_dir)
    show(result, shared["json"])
    return 0
