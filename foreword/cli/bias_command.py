"""``foreword bias FILE DATA`` or ``foreword bias DATA --base BASE``: what changes an answer that should not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="A data file.")] = None,
    base: options.Base = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Write the report and the rows here.")] = None,
    lists: Annotated[Path | None, typer.Option(metavar="YAML", help="Your own lists of words.")] = None,
    rows: Annotated[int, typer.Option(help="Rows to probe with, at most.", min=2)] = 200,
    tolerance: Annotated[float, typer.Option(help="Share of rows that may change.", min=0.0, max=1.0)] = 0.05,
    template: options.Template = None,
    guidance: options.Guidance = None,
    labels: options.Labels = None,
    inputs: options.Input = None,
    target: options.Target = None,
    task_kind: options.TaskKind = None,
    chat: Annotated[bool | None, typer.Option("--chat/--no-chat", help="Use the base's chat template.")] = None,
    seed: Annotated[int, typer.Option(help="Of the rows and orders that are drawn.")] = 13,
    config: options.Config = None,
    set: options.Assign = None,
    encoding: options.Encoding = None,
    skip_bad: options.SkipBad = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Find what changes an answer that should not.

    Probes a foreword or a prompt with other names, genders, regions, orders and wordings, and no input at all.
    """
    if data is None:
        file, data = None, file
    task = {name: value for name, value in options.settings(context).items() if name not in _OWN}
    if file is not None and (task or config is not None or set):
        received = ", ".join([*map(flag_of, task), *(["--config"] if config else []), *(["--set"] if set else [])])
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
            request = replace(resolve(config, flags, set or ()).request(), progress=progress)
            result = bias(request, settings=settings, output_dir=output_dir)
    show(result, json)
    return 0
