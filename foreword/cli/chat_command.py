"""``foreword chat FILES``: talk to the base and to forewords on it, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from foreword.cli import options
from foreword.cli.output import print_json, work
from foreword.errors import SettingsError

GROUP = "Use"
EXAMPLE = "foreword chat run/model.foreword"
_HELP = "/reset begins again, /save FILE writes the conversations, /quit ends"


def command(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILES]...", help="At most two forewords.")] = None,
    base: options.Base = None,
    bare: Annotated[bool, typer.Option("--bare/--no-bare", help="The base without a foreword answers too.")] = True,
    full: Annotated[str, typer.Option(metavar="trim|refuse", help="What a conversation that is too long is.")] = "trim",
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer of the bare base.")] = 256,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Talk to the base and to forewords side by side."""
    if len(files or []) > 2:
        raise SettingsError("at most two forewords fit beside the base", received=len(files or []))
    ways: dict[str, Literal["trim", "refuse"]] = {"trim": "trim", "refuse": "refuse"}
    if full not in ways:
        raise SettingsError(
            "unknown way with long conversations", where="--full", expected="trim or refuse", received=full
        )
    screen = sys.stderr if json else sys.stdout
    with work() as progress:
        from foreword import api

        turns = api.chat(
            files or [], base=base, bare=bare, full=ways[full], max_tokens=max_tokens, messages=_messages(),
            screen=screen, progress=progress,
        )  # fmt: skip
    print_json(turns) if json else print(f"{len(turns)} conversations ended")
    return 0


def _messages() -> Iterator[str]:
    """What the user types, line by line."""
    typed = sys.stdin.isatty()
    if typed:
        print(_HELP, file=sys.stderr)
    while True:
        if typed:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line.rstrip("\n")
