"""``foreword search DATA --base BASE --output-dir DIR``: prompts side by side, and a search for a better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.runs.output_folder import new_run
from foreword.settings.layers import resolve
from foreword.studies.search.settings import SearchSettings

GROUP = "Compare"
EXAMPLE = (
    "foreword search reviews.csv --base HuggingFaceTB/SmolLM2-135M-Instruct \\\n"
    "    --output-dir searched --budget 10min"
)


def command(
    context: typer.Context,
    data: options.DataFile = None,
    base: options.BaseModel = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the search.")] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts to compare: one a line, JSONL or YAML.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds of making and racing prompts. [default: 3; 0 with --variants]")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Time for the search, such as 10min.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Answers of the model at most.")] = None,
    width: Annotated[int | None, typer.Option(help="New prompts a round. [default: 12]")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows to score on, the held ones included. [default: 200]")] = None,
    held: Annotated[float | None, typer.Option(help="Share of the rows kept from the search. [default: 0.5]")] = None,
    shots: Annotated[int | None, typer.Option(help="Examples in front of a row at most. [default: 8]")] = None,
    operators: Annotated[
        list[str] | None, typer.Option("--operator", metavar="NAME", help="One way to make prompts. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier search in DIR.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted search.")] = None,
    **shared: Unpack[options.RunFlags],
) -> int:
    """Compare prompts and search for a better one.

    The gain is measured on rows that the search never saw.
    """
    flags = options.settings(context)
    if resume is not None:
        return _resume(resume, [*flags, *(["overwrite"] if overwrite else [])], shared["json"])
    return _search(flags, shared["config"], shared["set"] or (), overwrite, shared["json"])


def _search(
    flags: dict[str, Any], config: Path | None, assignments: Sequence[str], overwrite: bool, machine: bool
) -> int:
    own = {f.name for f in fields(SearchSettings)}
    settings = SearchSettings(**{name: _plain(value) for name, value in flags.items() if name in own})
    task = {name: value for name, value in flags.items() if name not in own or name == "seed"}
    request = resolve(config, task, assignments).request()
    with (
        new_run(request, overwrite),
        work(loads=True) as progress,
    ):
        from foreword.studies.search.search import search

        result = search(replace(request, progress=progress), settings)
    show(result, machine)
    return 0


def _plain(value: Any) -> Any:
    """A flag that may be repeated, as settings have it."""
    return tuple(value) if isinstance(value, list) else value


def _resume(folder: Path, given: list[str], machine: bool) -> int:
    options.refuse_beside_resume(given, folder, "search")
    with work(loads=True) as progress:
        from foreword.studies.search.search import resume_search

        result = resume_search(folder, progress)
    show(result, machine)
    return 0
