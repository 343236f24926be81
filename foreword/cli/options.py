"""The options that several commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

CONTROLS = ("config", "set", "overwrite", "resume", "dry_run", "json", "verbose")


def settings(context: typer.Context) -> dict[str, Any]:
    """What was given to a command of its options that are settings, by the setting's name."""
    return {key: value for key, value in context.params.items() if key not in CONTROLS and value not in (None, [], ())}


ForewordFile: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="A .foreword file.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output; everything else on standard error.")
]
Verbose: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")]
Base: TypeAlias = Annotated[
    str | None, typer.Option(metavar="BASE", help="Base model: hub id, folder or GGUF file; default: the one recorded.")
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="YAML", help="Settings file: task, method and training; flags win over it.")
]
Assign: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; wins over all. May be repeated.")
]
Dev: TypeAlias = Annotated[str | None, typer.Option(metavar="FILE", help="Dev data; default: a part of DATA.")]
Test: TypeAlias = Annotated[str | None, typer.Option(metavar="FILE", help="Test data; default: a part of DATA.")]
Template: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Jinja2 text of a row, such as 'Text: {{ text }}\\nLabel:'.")
]
InputPrefix: TypeAlias = Annotated[
    int | None, typer.Option("--input-prefix", metavar="K", help="Keep only the first K tokens of each field.")
]
Guidance: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The text prompt: what stands in front of every row.")
]
Labels: TypeAlias = Annotated[
    str | None, typer.Option(metavar="A=WORDS,B=WORDS", help="What the model says for each label.")
]
Input: TypeAlias = Annotated[
    list[str] | None, typer.Option("--input", metavar="COLUMN", help="Input column. May be repeated.")
]
Target: TypeAlias = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the label or target text.")]
SkipBad: TypeAlias = Annotated[
    bool | None, typer.Option("--skip-bad", help="Go on without the rows that are refused; they are counted.")
]
Encoding: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding of the data; default: found out.")
]
Layers: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SLICE", help="Layers to train: '15:' from 15 on, ':4', '2:10'. [default: all]")
]
WorkerCount: TypeAlias = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="So many at a time, each in a process of its own.")
]
Ray: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Let a Ray cluster do it ('local' starts one here).")
]
