"""``foreword import DIR --output FILE --base BASE``: a foreword out of another tool's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Share"
EXAMPLE = "foreword import adapter --output imported.foreword --base HuggingFaceTB/SmolLM2-135M-Instruct"


def command(
    folder: Annotated[Path, typer.Argument(metavar="SOURCE", help="PEFT folder, MLX-LM cache, llama.cpp state.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The .foreword file to write.")],
    base: Annotated[str, typer.Option(metavar="BASE", help="The base it was trained on: hub id, folder or GGUF file.")],
    template: options.Template = None,
    guidance: options.Guidance = None,
    labels: options.Labels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Make a .foreword file of another tool's checkpoint.

    What it asks is said by --template and --labels.
    """
    from foreword.settings.layers import resolve

    task = resolve(flags={"template": template, "guidance": guidance, "labels": labels}).task_options
    with work(loads=True) as progress:
        from foreword.export.convert import import_

        result = import_(
            folder,
            output,
            base,
            template=task.template or "{{ text }}",
            guidance=task.guidance or "",
            labels=task.labels,
            progress=progress,
        )
    show(result, json)
    return 0
