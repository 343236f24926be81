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
TaskKind: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="KIND", help="classification, multilabel, generation or tagging; default: recognised."
    ),
]
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
Predictions: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the predictions: .jsonl, .csv, .tsv or .parquet.")
]

MaxNewTokens: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Tokens to write at most.")]
MinNewTokens: TypeAlias = Annotated[int | None, typer.Option(min=0, help="Tokens to write at least.")]
NumBeams: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Beams to search with.")]
Temperature: TypeAlias = Annotated[float | None, typer.Option(min=0.0, help="Sample at this temperature; 0: greedy.")]
TopP: TypeAlias = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Sample from this share.")]
TopK: TypeAlias = Annotated[int | None, typer.Option(min=0, help="Sample from the k likeliest tokens.")]
SamplingSeed: TypeAlias = Annotated[int | None, typer.Option("--seed", min=0, help="Of sampling.")]
RepetitionPenalty: TypeAlias = Annotated[float | None, typer.Option(help="Above 1: less repetition.")]
Stop: TypeAlias = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End there. May be repeated.")]
_DECODING = (
    "max_new_tokens", "min_new_tokens", "num_beams", "top_p", "top_k", "sampling_seed", "repetition_penalty", "stop",
)  # fmt: skip


def decoding(context: typer.Context) -> dict[str, Any]:
    """What was given to a command of the settings of decoding, by their names in the library."""
    given = context.params
    chosen = {name: given[name] for name in _DECODING if given.get(name) not in (None, [], ())}
    if "stop" in chosen:
        chosen["stop"] = tuple(chosen["stop"])
    if given.get("temperature") is not None:
        chosen["do_sample"] = given["temperature"] > 0
        if chosen["do_sample"]:
            chosen["temperature"] = given["temperature"]
    elif "top_p" in chosen or "top_k" in chosen:
        chosen["do_sample"] = True
    return chosen
