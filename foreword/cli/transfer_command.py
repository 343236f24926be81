"""``foreword transfer A.yaml B.yaml --base BASE --output-dir DIR``: which task's foreword is a good start for which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.layers import resolve

GROUP = "Train"
EXAMPLE = "foreword transfer reviews.yaml news.yaml --base own-base --output-dir transfer"


def command(
    context: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="YAML...", help="Settings files, one a task; each names its data.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="Base: hub id, folder, GGUF file; lstm, gru, textgenrnn.")
    ] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of all the runs.")] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="What is learned. [default: prefix]")] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Also train all tasks together: a foreword each and a shared part.")
    ] = False,
    learning_rate: Annotated[float | None, typer.Option(help="One rate, instead of trying several.")] = None,
    num_train_epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial values and of the order of rows.")] = None,
    set: options.Assign = None,
    skip_bad: options.SkipBad = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Find which task's foreword is a good start for which.

    Trains each task from its prompt and from every other task's foreword. Given again, it goes on.
    """
    given = options.settings(context)
    flags = {key: value for key, value in given.items() if key not in ("files", "together", "output_dir")}
    if not files or output_dir is None:
        missing = "--output-dir" if files else "YAML..."
        raise SettingsError(
            Message("{missing} is missing", missing=missing),
            hint="foreword transfer A.yaml B.yaml --base BASE --output-dir DIR",
        )
    requests = {}
    for file in files:
        if file.stem in requests:
            raise SettingsError("two files have one name, which names the task", received=str(file))
        requests[file.stem] = resolve(file, {**flags, "output_dir": output_dir}, set or ()).request()
    with work(loads=True) as progress:
        from foreword import api

        result = api.transfer(requests, output_dir, joint=together, progress=progress)
    show(result, json)
    return 0
