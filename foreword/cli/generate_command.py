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
    file: options.ForewordFile,
    text: Annotated[str, typer.Option(metavar="TEXT", help="The input; - reads standard input.")] = "-",
    base: options.Base = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to write at most.")] = None,
    num_beams: Annotated[int | None, typer.Option(min=1, help="Beams to search with.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="Sample at this temperature; 0: greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Sample from this share.")] = None,
    top_k: Annotated[int | None, typer.Option(min=0, help="Sample from the k likeliest tokens.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of sampling.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1: less repetition.")] = None,
    min_new_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens to write at least.")] = None,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End there. May be repeated.")] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Write a continuation of a text with a foreword in front."""
    source = sys.stdin.read() if text == "-" else text
    choices: dict[str, object] = {
        "max_new_tokens": max_new_tokens, "num_beams": num_beams, "top_p": top_p, "top_k": top_k, "sampling_seed": seed,
        "repetition_penalty": repetition_penalty, "min_new_tokens": min_new_tokens, "stop": tuple(stop or ()) or None,
    }  # fmt: skip
    if temperature is not None:
        choices["do_sample"] = temperature > 0
        choices["temperature"] = temperature if temperature > 0 else None
    elif top_p is not None or top_k is not None:
        choices["do_sample"] = True
    decoding = {key: value for key, value in choices.items() if value is not None}
    with work():
        from foreword import api

        written = api.generate(file, source, base=base, **decoding)
    print_json({"input": source, "output": written}) if json else print(written)
    return 0
