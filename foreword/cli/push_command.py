"""``foreword push FILE owner/name``: a foreword and its model card to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Share"
EXAMPLE = "foreword push run/model.foreword owner/name --output-dir card"


def command(
    file: options.ForewordFile,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; made if it is not there.")],
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write card and file there and send nothing.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="A repository that is made now is public.")] = False,
    base_model: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The base's hub id, if the file has a path.")
    ] = None,
    license: Annotated[str, typer.Option(metavar="NAME", help="Licence of the foreword.")] = "",
    data_license: Annotated[str, typer.Option(metavar="NAME", help="Licence of the data.")] = "",
    base_license: Annotated[str, typer.Option(metavar="NAME", help="Licence of the base.")] = "",
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Upload a foreword with a model card.

    The card says what it does, figures with intervals, limits, licences, how to load it.
    The repository is private unless --public is given. `hf auth login` says who you are.
    """
    with work():
        from foreword.export.model_card import Licences
        from foreword.export.push import push

        licences = Licences(license, data_license, base_license)
        result = push(file, repo, base_model=base_model, licences=licences, public=public, output_dir=output_dir)
    show(result, json)
    return 0
