"""``foreword evaluate FILE DATA``: how good a foreword is on a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foreword.cli import options
from foreword.cli.output import print_json, print_rows, work

GROUP = "Compare"
EXAMPLE = "foreword evaluate run/model.foreword test.csv --metric macro_f1"


def command(
    file: options.ForewordFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file with the right answers.")],
    base: options.Base = None,
    output: Annotated[Path | None, typer.Option(metavar="JSONL", help="Write one prediction a line.")] = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another metric. May be repeated.")] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Evaluate a foreword on labelled data, with intervals."""
    with work() as progress:
        from foreword import api

        result = api.evaluate(file, data, base=base, output=output, metrics=tuple(metric or ()), progress=progress)
    if json:
        print_json(result)
    else:
        _print(file.stem, result)
    return 0


def _print(name: str, result: dict[str, Any]) -> None:
    """The figures with their intervals, then the classes one a line."""
    from foreword.evaluation.report.summary import render

    print(f"{result['rows']} rows")
    print(render({name: result}), end="")
    if "report" in result:
        print()
        print_rows([{"label": label, **figures} for label, figures in result["report"]["classes"].items()])
