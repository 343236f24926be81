"""``foreword base DATA... --cell lstm --output-dir DIR``: train a base from scratch."""

from __future__ import annotations

from typing import Annotated

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
    template: options.Template = None,
    guidance: options.Guidance = None,
    labels: options.Labels = None,
    inputs: options.Input = None,
    target: options.Target = None,
    config: options.Config = None,
    set: options.Assign = None,
    skip_bad: options.SkipBad = None,
    encoding: options.Encoding = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Train an LSTM or GRU from scratch on data files.

    Any command takes the folder as --base.
    """
    flags = {key: value for key, value in options.settings(context).items() if key not in ("files", "cell")}
    resolved = resolve(config, {**flags, "base": cell}, set or ())
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
    with work() as progress:
        from foreword import api

        result = api.base(
            data,
            cell,
            str(keys.output_dir),
            dev=keys.dev,
            settings=resolved.base_settings,
            task_options=resolved.task_options,
            skip_bad=keys.skip_bad,
            encoding=keys.encoding,
            progress=progress,
        )
    show(result, json)
    return 0
