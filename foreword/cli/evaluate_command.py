"""``foreword evaluate FILE DATA``: how good a foreword is on a data file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from foreword.cli import options
from foreword.cli.output import print_json, print_rows, work
from foreword.messages import Message, say

GROUP = "Compare"
EXAMPLE = "foreword evaluate run/model.foreword test.csv --metric macro_f1"


def command(
    context: typer.Context,
    file: options.ForewordFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file with the right answers.")],
    base: options.Base = None,
    output: options.Predictions = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another metric. May be repeated.")] = None,
    max_new_tokens: options.MaxNewTokens = None,
    min_new_tokens: options.MinNewTokens = None,
    num_beams: options.NumBeams = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    sampling_seed: options.SamplingSeed = None,
    repetition_penalty: options.RepetitionPenalty = None,
    stop: options.Stop = None,
    skip_bad: options.SkipBad = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Evaluate a foreword on labelled data, with intervals."""
    with work(loads=True) as progress:
        from foreword import api

        result = api.evaluate(
            file, data, base=base, output=output, metrics=tuple(metric or ()), skip_bad=bool(skip_bad),
            progress=progress, **options.decoding(context),
        )  # fmt: skip
    if json:
        print_json(result)
    else:
        _print(file.stem, result)
    return 0


def _print(name: str, result: dict[str, Any]) -> None:
    """The figures with their intervals, then the classes one a line."""
    from foreword.evaluation.report.summary import render

    skipped = say(Message(", {n} skipped", n=result["skipped"])) if "skipped" in result else ""
    print(say(Message("{n:,} rows", n=result["rows"])) + skipped)
    print(render({name: result}), end="")
    if "report" in result:
        print()
        print_rows([{"label": label, **figures} for label, figures in result["report"]["classes"].items()])
