"""``foreword train DATA --base BASE --output-dir RUN``, and ``foreword train --resume RUN``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Unpack

import typer

from foreword.cli import options
from foreword.cli.output import show, work
from foreword.errors import GateError, SettingsError
from foreword.runs.output_folder import new_run
from foreword.settings.layers import resolve
from foreword.settings.schema import TrainRequest

GROUP = "Train"
EXAMPLE = "foreword train reviews.csv --base HuggingFaceTB/SmolLM2-135M-Instruct --output-dir run"
_REQUIRED = {
    # Where the text itself is saved, nothing worse than it can come of using the file; it is not what was asked for.
    "learned": ("better", "worse", "equal", "not_better", "cannot_tell", "measured"),
    "better": ("better",),
}
"""What --require may say -> the states of a verdict that meet it."""


def command(
    context: typer.Context,
    data: options.DataFile = None,
    base: options.AnyBase = None,
    output_dir: Annotated[str | None, typer.Option(metavar="RUN", help="Folder of the run.")] = None,
    init_from: Annotated[
        str | None, typer.Option("--init", metavar="FILE", help="Start from another foreword.")
    ] = None,
    first_k: options.InputPrefix = None,
    per_device_train_batch_size: Annotated[
        str | None, typer.Option("--batch", metavar="ROWS", help="Rows in a training batch, or auto.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(metavar="K", min=2, help="Test every row once, by K trainings on the other rows.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in RUN.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    require: Annotated[
        str | None, typer.Option(metavar="STATE", help="learned or better: exit 100 when the run is not.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Settings, memory and time; trains nothing.")] = False,
    **shared: Unpack[options.TrainingFlags],
) -> int:
    """Learn a foreword from a data file.

    Writes RUN/model.foreword and RUN/report.html.
    """
    flags = {name: value for name, value in options.settings(context).items() if name not in ("folds", "require")}
    if require not in (None, *_REQUIRED) or (require and (folds is not None or dry_run)):
        raise SettingsError(
            "this cannot be required", where="--require", received=require,
            expected="learned or better, of one training (without --folds and --dry-run)",
        )  # fmt: skip
    if resume is not None:
        controls = ("config", "set", "overwrite", "dry_run", "folds")
        given = [*flags, *(name for name in controls if context.params[name])]
        return _met(_resume(resume, given, shared["json"]), require)
    if folds is not None and dry_run:
        raise SettingsError("--dry-run is of one training", where="--folds", hint="leave --folds out")
    request = resolve(shared["config"], flags, shared["set"] or ()).request()
    return _met(_train(request, overwrite, dry_run, shared["json"], folds), require)


def _met(result: object, require: str | None) -> int:
    """The exit code: 100 where what was required of the run's verdict is not so."""
    state, verdict = getattr(result, "state", None), getattr(result, "verdict", ())
    if require is None or state in _REQUIRED[require]:
        return 0
    # The result stands on standard output; the error beside it must not be a second document there.
    received = verdict[0] if verdict else None
    error = GateError("the requirement was not met", where=f"--require {require}", received=received)
    print(f"foreword: {error}", file=sys.stderr, flush=True)
    return error.exit_code


def _resume(folder: Path, given: list[str], machine: bool) -> object:
    options.refuse_beside_resume(given, folder, "run")
    with work(loads=True) as progress:
        from foreword import api

        resumed = api.resume_folds if (folder / "folds.json").exists() else api.resume
        result = resumed(folder, progress)
    show(result, machine)
    return result


def _train(request: TrainRequest, overwrite: bool, dry_run: bool, machine: bool, folds: int | None) -> object:
    if dry_run:
        with work(loads=True) as progress:
            from foreword import api

            plan = api.dry_run(replace(request, progress=progress))
        show(plan, machine)
        return plan
    with new_run(request, overwrite), work(loads=True) as progress:
        from foreword import api

        told = replace(request, progress=progress)
        result = api.train(told) if folds is None else api.cross_validate(told, folds)
    show(result, machine)
    return result
