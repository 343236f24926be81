"""The options that several commands share, said once.

A command takes a group of them as ``**shared: Unpack[options.TaskFlags]``; :func:`expanded` makes them its parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict, get_args, get_type_hints

import typer

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.layers import flag_of

CONTROLS = ("config", "set", "overwrite", "resume", "dry_run", "json", "verbose")


def settings(context: typer.Context) -> dict[str, Any]:
    """What was given to a command of its options that are settings, by the setting's name."""
    return {key: value for key, value in context.params.items() if key not in CONTROLS and value not in (None, [], ())}


def refuse_beside_resume(given: Iterable[str], folder: Path, noun: str) -> None:
    """Refuse settings beside --resume, and a folder that is not there. Raises SettingsError.

    Args:
        noun: what is resumed: "run".
    """
    names, what = sorted(map(flag_of, given)), Message(noun)
    if names:
        raise SettingsError(
            Message("--resume takes everything from the {noun}", noun=what),
            where=str(folder),
            received=", ".join(names),
            hint=Message("leave them out, or start a new {noun} in another folder", noun=what),
        )
    if not folder.is_dir():
        raise SettingsError(
            Message("there is no {noun} to resume", noun=what), where=str(folder), expected="the folder of one"
        )


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
DataFile: TypeAlias = Annotated[str | None, typer.Argument(metavar="DATA", help="A data file.")]
AnyBase: TypeAlias = Annotated[
    str | None, typer.Option(metavar="BASE", help="Base: hub id, folder, GGUF file; lstm, gru, textgenrnn.")
]
BaseModel: TypeAlias = Annotated[
    str | None, typer.Option(metavar="BASE", help="Base model: hub id, folder or GGUF file.")
]
Metric: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="The metric that decides.")]
Chat: TypeAlias = Annotated[bool | None, typer.Option("--chat/--no-chat", help="Use the base's chat template.")]
Method: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="What is learned. [default: prefix]")]
LearningRate: TypeAlias = Annotated[float | None, typer.Option(help="One rate, instead of trying several.")]
Epochs: TypeAlias = Annotated[float | None, typer.Option(help="Passes over the training rows.")]
Seed: TypeAlias = Annotated[int | None, typer.Option(help="Of initial values and of the order of rows.")]


class OutputFlags(TypedDict):
    """How a result is shown."""

    json: Json
    verbose: Verbose


class SourceFlags(OutputFlags):
    """Where settings and rows come from."""

    encoding: Encoding
    skip_bad: SkipBad
    config: Config
    set: Assign


class TaskFlags(SourceFlags):
    """What is asked of the rows of a file."""

    template: Template
    guidance: Guidance
    labels: Labels
    inputs: Input
    target: Target
    task_kind: TaskKind


class RunFlags(TaskFlags):
    """Rows to learn from and to measure on, and by what."""

    dev: Dev
    test: Test
    metric: Metric
    chat: Chat


class TrainingFlags(RunFlags):
    """One training."""

    method: Method
    layers: Layers
    learning_rate: LearningRate
    num_train_epochs: Epochs
    seed: Seed


class WorkerFlags(TypedDict):
    """Processes or machines that share the work."""

    workers: WorkerCount
    ray: Ray


def expanded(function: Callable[..., int]) -> Callable[..., int]:
    """A command with the options of its ``**shared`` as parameters, which is how typer wants to see them."""
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())
    if not own or own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return function
    [group] = get_args(own[-1].annotation)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=_UNSET.get(name))
        for name, hint in get_type_hints(group, include_extras=True).items()
    ]

    def command(**values: Any) -> int:
        return function(**values)

    parameters = [*own[:-1], *shared]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = function.__doc__
    return command


_UNSET = {"json": False, "verbose": False}
"""What an option is where it is not given, if not None."""
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
