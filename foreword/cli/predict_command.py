"""``foreword predict FILE DATA --output OUT.jsonl``, or one ``--text``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli import options
from foreword.cli.output import as_json, print_json, print_rows, work
from foreword.errors import SettingsError

GROUP = "Use"
EXAMPLE = """foreword predict run/model.foreword rows.csv --output answers.csv
echo 'a fine film' | foreword predict run/model.foreword -"""


def command(
    file: options.ForewordFile,
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help="A data file; answers are not needed.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="One input, instead of DATA.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="JSONL", help="Write one prediction a line.")] = None,
    base: options.Base = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Predict for a data file or for one text."""
    if (data is None) == (text is None):
        raise SettingsError("give DATA or --text, one of the two", hint="foreword predict FILE --text 'some text'")
    if workers or ray:
        return _shared_out(file, data, output, base, (workers or 2, ray), json)
    with work() as progress:
        from foreword import api

        predictions = api.predict(file, data, text=text, base=base, output=output, progress=progress)
    rows = [as_json(prediction) for prediction in predictions]
    if output is not None:
        summary = {"file": str(output), "rows": len(rows)}
        print_json(summary) if json else print(f"{len(rows)} predictions in {output}")
    elif text is not None:
        print_json(rows[0]) if json else print(rows[0]["output"])
    elif json:
        print_json(rows)
    else:
        print_rows(rows, ("id", "input", "output", "score"))
    return 0


def _shared_out(
    file: Path, data: str | None, output: Path | None, base: str | None, workers: tuple[int, str | None], machine: bool
) -> int:
    """Rows shared out over workers; what they say is in the output file."""
    if data is None or output is None:
        raise SettingsError("--workers takes a data file and --output", hint="foreword predict FILE DATA --output OUT")
    with work() as progress:
        from foreword import api

        rows = api.predict_all(file, data, output, api.Workers(*workers), base=base, progress=progress)
    print_json({"file": str(output), "rows": rows}) if machine else print(f"{rows} predictions in {output}")
    return 0
