"""``foreword sweep DATA --base BASE --input-prefix 4,8,16,all --output-dir DIR``: how much of an input is enough?"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.settings.layers import resolve

GROUP = "Train"
EXAMPLE = "foreword sweep reviews.csv --base own-base --input-prefix 4,8,all --output-dir early"


def command(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="A data file.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="Base: hub id, folder, GGUF file; lstm, gru, textgenrnn.")
    ] = None,
    input_prefix: Annotated[
        str | None, typer.Option(metavar="K,K,...", help="Numbers of first tokens; whole inputs are always run.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Loss that does not matter, as the metric counts. [default: two points]")
    ] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of all the runs.")] = None,
    dev: options.Dev = None,
    test: options.Test = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="What is learned. [default: prefix]")] = None,
    layers: options.Layers = None,
    template: options.Template = None,
    guidance: options.Guidance = None,
    labels: options.Labels = None,
    inputs: options.Input = None,
    target: options.Target = None,
    task_kind: options.TaskKind = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", help="The metric that decides.")] = None,
    chat: Annotated[bool | None, typer.Option("--chat/--no-chat", help="Use the base's chat template.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="One rate, instead of trying several.")] = None,
    num_train_epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial values and of the order of rows.")] = None,
    config: options.Config = None,
    set: options.Assign = None,
    encoding: options.Encoding = None,
    skip_bad: options.SkipBad = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
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
    request = resolve(config, flags, set or ()).request()
    with work(loads=True) as progress:
        from foreword import api

        many = api.Workers(workers or 2, ray) if workers or ray else None
        result = api.sweep(replace(request, progress=progress), str(own["input_prefix"]), margin, many)
    show(result, json)
    return 0
