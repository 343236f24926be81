"""``foreword sweep DATA --base BASE --input-prefix 4,8,16,all --output-dir DIR``: how much of an input is enough?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.settings.layers import resolve

GROUP = "Train"
EXAMPLE = "foreword sweep reviews.csv --base own-base --input-prefix 4,8,all --output-dir early"


class _Shared(options.TrainingFlags, options.WorkerFlags):
    """Several trainings."""


def command(
    context: typer.Context,
    data: options.DataFile = None,
    base: options.AnyBase = None,
    input_prefix: Annotated[
        str | None, typer.Option(metavar="K,K,...", help="Numbers of first tokens; whole inputs are always run.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Loss that does not matter, as the metric counts. [default: two points]")
    ] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of all the runs.")] = None,
    **shared: Unpack[_Shared],
) -> int:
    """Find how many first tokens of an input are enough.

    Trains on the first K tokens for several K and says from which K on they do. Given again, it goes on.
    """
    flags = options.settings(context)
    own = {key: flags.pop(key, None) for key in ("input_prefix", "margin", "workers", "ray")}
    if own["input_prefix"] is None:
        raise SettingsError("--input-prefix is missing", hint="for instance --input-prefix 4,8,16,all")
    if margin is not None and margin <= 0:
        raise SettingsError("a margin is above 0", where="--margin", received=margin)
    request = resolve(shared["config"], flags, shared["set"] or ()).request()
    with work(loads=True) as progress:
        from foreword import api

        workers, ray = shared["workers"], shared["ray"]
        many = api.Workers(workers or 2, ray) if workers or ray else None
        result = api.sweep(replace(request, progress=progress), str(own["input_prefix"]), margin, many)
    show(result, shared["json"])
    return 0
