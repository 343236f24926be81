"""``foreword distill INPUTS --shots 16 --base BASE --output-dir RUN``: a short foreword instead of a long text."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.runs.output_folder import new_run
from foreword.settings.layers import resolve
from foreword.studies.distill.settings import DistillSettings

GROUP = "Train"
EXAMPLE = (
    "foreword distill reviews.csv --shots 16 --base HuggingFaceTB/SmolLM2-135M-Instruct \\\n"
    "    --num-virtual-tokens 64 --output-dir short"
)


def command(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="INPUTS", help="Rows, with or without answers; a document needs none.")
    ] = None,
    base: options.BaseModel = None,
    output_dir: Annotated[str | None, typer.Option(metavar="RUN", help="Folder of the run.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option("--teacher-prompt", metavar="FILE", help="The teacher: a long prompt.")
    ] = None,
    shots: Annotated[int | None, typer.Option(metavar="N", help="The teacher: N labelled rows as examples.")] = None,
    document: Annotated[
        str | None, typer.Option(metavar="FILE", help="The teacher: a document that rows ask about.")
    ] = None,
    num_virtual_tokens: Annotated[int | None, typer.Option(metavar="P", help="Of the foreword. [default: 32]")] = None,
    start: Annotated[
        str | None, typer.Option(metavar="NAME", help="match, first or random: what it begins as. [default: match]")
    ] = None,
    questions: Annotated[
        int | None, typer.Option(metavar="N", help="Without INPUTS: what the base asks itself. [default: 200]")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Points within which it is as good. [default: 2]")] = None,
    learning_rate: options.LearningRate = None,
    num_train_epochs: options.Epochs = None,
    seed: options.Seed = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in RUN.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    **shared: Unpack[options.RunFlags],
) -> int:
    """Learn a short foreword that answers like a long text.

    Needs no labels: the base with the long text in front is the teacher.
    """
    given = options.settings(context)
    if resume is not None:
        options.refuse_beside_resume(given, resume, "run")
        with work(loads=True) as progress:
            from foreword import api

            result = api.resume_distillation(resume, progress)
    else:
        result = _distill(given, shared["config"], list(shared["set"] or ()), overwrite)
    show(result, shared["json"])
    return 0


def _distill(given: dict[str, Any], config: Path | None, assignments: list[str], overwrite: bool) -> Any:
    own = {field.name for field in fields(DistillSettings)}
    settings = DistillSettings(**{name: value for name, value in given.items() if name in own})
    flags = {name: value for name, value in given.items() if name not in own}
    if "data" not in flags and settings.document is not None:
        flags["data"] = settings.document
        request = replace(resolve(config, flags, assignments).request(), data=None)
    else:
        request = resolve(config, flags, assignments).request()
    with new_run(request, overwrite), work(loads=True) as progress:
        from foreword import api

        return api.distill(replace(request, progress=progress), settings)
