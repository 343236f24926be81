"""``foreword compare DATA --base BASE --output-dir DIR --budget 20min``: was it worth training?"""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import GateError, SettingsError
from foreword.runs.output_folder import new_run
from foreword.settings.layers import flag_of, resolve
from foreword.studies.compare.compare_result import CompareResult
from foreword.studies.compare.settings import CompareOptions

GROUP = "Compare"
EXAMPLE = (
    "foreword compare reviews.csv --base HuggingFaceTB/SmolLM2-135M-Instruct \\\n"
    "    --output-dir compared --budget 20min"
)


def command(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help="A data file.")] = None,
    base: Annotated[str | None, typer.Option(metavar="BASE", help="Base model: hub id, folder or GGUF file.")] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the comparison.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="20min, 1h30m; light, medium, heavy. [default: medium]")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="What to train. [default: all that fit the base]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each method. [default: 3, or what fits]")] = None,
    margin: Annotated[float | None, typer.Option(help="Points that matter. [default: 1]")] = None,
    level: Annotated[float | None, typer.Option(help="Of the intervals. [default: 0.95]")] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts to choose the best from: one a line, JSONL or YAML.")
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Examples in the few-shot prompt at most. [default: 8]")] = None,
    curve: Annotated[bool | None, typer.Option("--curve", help="Learn with fewer rows, too.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="FILE", help="Rows without labels: which to label next.")] = None,
    label_next: Annotated[int | None, typer.Option(help="How many of them are named. [default: 20]")] = None,
    other: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows of another task: what a foreword does to them.")
    ] = None,
    require: Annotated[
        str | None, typer.Option(metavar="TEXT", help="'prefix > prompt + 2' (points): exit 100 when not met.")
    ] = None,
    require_by: Annotated[
        str | None, typer.Option(metavar="WHAT", help="interval (its lower end) or estimate. [default: interval]")
    ] = None,
    price_input: Annotated[float | None, typer.Option(help="Price of a million tokens read.")] = None,
    price_output: Annotated[float | None, typer.Option(help="Price of a million tokens written.")] = None,
    dev: options.Dev = None,
    test: options.Test = None,
    template: options.Template = None,
    guidance: options.Guidance = None,
    labels: options.Labels = None,
    inputs: options.Input = None,
    target: options.Target = None,
    task_kind: options.TaskKind = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", help="The metric that decides.")] = None,
    chat: Annotated[bool | None, typer.Option("--chat/--no-chat", help="Use the base's chat template.")] = None,
    seed: Annotated[int | None, typer.Option(help="The first seed; the others count on from it.")] = None,
    config: options.Config = None,
    set: options.Assign = None,
    encoding: options.Encoding = None,
    skip_bad: options.SkipBad = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison in DIR.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted comparison.")] = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Find out whether training is worth it.

    Compares prompts, baselines and trained methods on the same rows.
    """
    flags = options.settings(context)
    many = {key: flags.pop(key, None) for key in ("workers", "ray")}
    if resume is not None:
        return _resume(resume, [*flags, *(["overwrite"] if overwrite else [])], json, many)
    own = {f.name for f in fields(CompareOptions)}
    asked: dict[str, Any] = {name: value for name, value in flags.items() if name in own}
    if methods is not None:
        asked["methods"] = tuple(name.strip() for name in methods.split(",") if name.strip())
    chosen = CompareOptions(**asked)
    request = resolve(config, {k: v for k, v in flags.items() if k not in own}, set or ()).request()
    with (
        new_run(request, overwrite),
        work(loads=True) as progress,
    ):
        from foreword.studies.compare.compare import compare

        result = compare(replace(request, progress=progress), chosen, workers=_workers(**many))
    return _end(result, json)


def _resume(folder: Path, given: list[str], machine: bool, many: dict[str, Any]) -> int:
    if given:
        raise SettingsError(
            "--resume takes everything from the comparison",
            where=str(folder),
            received=", ".join(sorted(map(flag_of, given))),
            hint="leave them out, or start a new comparison in another folder",
        )
    if not folder.is_dir():
        raise SettingsError("there is no comparison to resume", where=str(folder), expected="the folder of one")
    with work(loads=True) as progress:
        from foreword.studies.compare.compare import resume

        result = resume(folder, progress, _workers(**many))
    return _end(result, machine)


def _workers(workers: int | None, ray: str | None) -> Any:
    from foreword.runs.workers.pool import Workers

    return Workers(workers or 2, ray) if workers or ray else None


def _end(result: CompareResult, machine: bool) -> int:
    show(result, machine)
    if result.gate is None or result.gate["met"]:
        return 0
    # The result stands on standard output; the error beside it must not be a second document there.
    error = GateError("the requirement was not met", where=result.gate["text"], received=result.gate["said"])
    print(f"foreword: {error}", file=sys.stderr, flush=True)
    return error.exit_code
