"""``foreword export FILE --to llamacpp --set gguf=MODEL.gguf --output-dir DIR``: a foreword for another engine."""

from __future__ import annotations

from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import SettingsError

GROUP = "Share"
EXAMPLE = "foreword export run/model.foreword --to peft --output-dir adapter"


def command(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="A .foreword file.")] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder for the engine's files.")] = None,
    to: Annotated[str, typer.Option("--to", "--format", metavar="NAME", help="The format; list shows all.")] = "peft",
    set: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the format. May be repeated.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Ask the engine the golden rows and compare.")] = False,
    engine_python: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="For --verify: a Python that has the engine.")
    ] = None,
    base: options.Base = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Write a foreword in another engine's format.

    The base is loaded to make sure that it fits. With --verify the engine, where it is installed, is asked the file's
    golden rows.
    """
    if to == "list":
        with work():
            from foreword.export.convert import formats

            listed = formats()
        show(listed, json)
        return 0
    if file is None or output_dir is None:
        raise SettingsError("export needs FILE and --output-dir DIR", hint="see foreword export --help")
    settings = dict(_pair(text) for text in set or ())
    with work(loads=True) as progress:
        from foreword.export.convert import export

        result = export(
            file, output_dir, format=to, settings=settings, base=base, verify=verify and (engine_python or True),
            progress=progress,
        )  # fmt: skip
    show(result, json)
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingsError("a setting is KEY=VALUE", where="--set", received=text)
    return key.replace("-", "_"), value
