"""``foreword generate FILE --text TEXT``: let the model write."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import print_json, work

GROUP = "Use"
EXAMPLE = "foreword generate run/model.foreword --text 'when do you open' --max-new-tokens 16"


def command(
    context: typer.Context,
    file: options.ForewordFile,
    text: Annotated[str, typer.Option(metavar="TEXT", help="The input; - reads standard input.")] = "-",
    base: options.Base = None,
    max_new_tokens: options.MaxNewTokens = None,
    min_new_tokens: options.MinNewTokens = None,
    num_beams: options.NumBeams = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    sampling_seed: options.SamplingSeed = None,
    repetition_penalty: options.RepetitionPenalty = None,
    stop: options.Stop = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Write a continuation of a text with a foreword in front."""
    source = sys.stdin.read() if text == "-" else text
    with work(loads=True):
        from foreword import api

        written = api.generate(file, source, base=base, **options.decoding(context))
    print_json({"input": source, "output": written}) if json else print(written)
    return 0
