"""``foreword compare DATA --base BASE --output-dir DIR --budget 20min``: was it worth training?"""

from __future__ import annotations

import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import GateError
from foreword.runs.output_folder import new_run
from foreword.settings.layers import resolve
from foreword.studies.compare.compare_result import CompareResult
from foreword.studies.compare.settings import CompareOptions

GROUP = "Compare"
EXAMPLE = (
    "foreword compare reviews.csv --base HuggingFaceTB/SmolLM2-135M-Instruct \\\n"
    "    --output-dir compared --budget 20min"
)


class _Shared(options.RunFlags, options.WorkerFlags):
    """What a comparison reads and reckons with beyond its systems."""

    pool: Annotated[str | None, typer.Option(metavar="FILE", help="Rows without labels: which to label next.")]
    label_next: Annotated[int | None, typer.Option(help="How many of them are named. [default: 20]")]
    other: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows of another task: what a foreword does to them.")
    ]
    require: Annotated[
        str | None, typer.Option(metavar="TEXT", help="'prefix > prompt + 2' (points): exit 100 when not met.")
    ]
    require_by: Annotated[
        str | None, typer.Option(metavar="WHAT", help="interval (its lower end) or estimate. [default: interval]")
    ]
    price_input: Annotated[float | None, typer.Option(help="Price of a million tokens read.")]
    price_output: Annotated[float | None, typer.Option(help="Price of a million tokens written.")]


def command(
    context: typer.Context,
    data: options.DataFile = None,
    base: options.BaseModel = None,
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
    seed: Annotated[int | None, typer.Option(help="The first seed; the others count on from it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison in DIR.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted comparison.")] = None,
    **shared: Unpack[_Shared],
) -> int:
    """Find out whether training is worth it.

    Compares prompts, baselines and trained methods on the same rows.
    """
    began, flags = time.monotonic(), options.settings(context)
    many = {key: flags.pop(key, None) for key in ("workers", "ray")}
    if resume is not None:
        return _resume(resume, [*flags, *(["overwrite"] if overwrite else [])], shared["json"], many)
    own = {f.name for f in fields(CompareOptions)}
    asked: dict[str, Any] = {name: value for name, value in flags.items() if name in own}
    if methods is not None:
        asked["methods"] = tuple(name.strip() for name in methods.split(",") if name.strip())
    chosen = CompareOptions(**asked)
    rest = {name: value for name, value in flags.items() if name not in own}
    request = resolve(shared["config"], rest, shared["set"] or ()).request()
    with (
        new_run(request, overwrite),
        work(loads=True) as progress,
    ):
        from foreword.studies.compare.compare import compare

        result = compare(replace(request, progress=progress), chosen, workers=_workers(**many), began=began)
    return _end(result, shared["json"])


def _resume(folder: Path, given: list[str], machine: bool, many: dict[str, Any]) -> int:
    options.refuse_beside_resume(given, folder, "comparison")
    with work(loads=True) as progress:
        from foreword.studies.compare.compare import resume_comparison

        result = resume_comparison(folder, progress, _workers(**many))
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
