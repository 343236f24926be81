"""``foreword studio [WORKSPACE]``: the same work on a local web page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Use"
EXAMPLE = "foreword studio my-project"


def command(
    workspace: Annotated[Path, typer.Argument(metavar="[WORKSPACE]", help="Folder for uploads and runs.")] = Path(
        "foreword-studio"
    ),
    bases: Annotated[
        list[Path] | None, typer.Option("--bases", metavar="DIR", help="Folder of base models. May be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; one that others can reach needs a password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8266,
    set_password: Annotated[bool, typer.Option("--set-password", help="Ask for the password, keep it, end.")] = False,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Open a local page: data, training, rows, trying, serving."""
    from foreword.errors import SettingsError
    from foreword.studio.password import set_password as keep
    from foreword.studio.settings import StudioSettings

    if set_password:
        keep(workspace, typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True))
        show({"workspace": str(workspace), "password": "set"}, json)
        return 0
    for folder in bases or ():
        if not folder.exists():
            raise SettingsError("no such file or folder", where=str(folder))
    try:
        from foreword.studio.studio_app import serve_studio
    except ModuleNotFoundError as error:
        raise SettingsError(
            "the studio needs packages that are not installed", where=error.name, hint="pip install 'foreword[studio]'"
        ) from error
    settings = StudioSettings(workspace, tuple(bases or ()), host, port)
    with work():
        result = serve_studio(settings, ready=lambda url: print(f"the studio is at {url}", file=sys.stderr, flush=True))
    show(result, json)
    return 0
