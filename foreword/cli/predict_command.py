"""``foreword predict FILE DATA --output OUT.csv``, or one ``--text``; ``-`` reads texts from standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreword.cli import options
from foreword.cli.output import as_json, print_json, print_rows, work
from foreword.errors import SettingsError
from foreword.messages import Message, say

if TYPE_CHECKING:
    from foreword.evaluation.prediction_files import Predictions

GROUP = "Use"
EXAMPLE = """foreword predict run/model.foreword rows.csv --output answers.csv
echo 'a fine film' | foreword predict run/model.foreword -"""


def command(
    context: typer.Context,
    file: options.ForewordFile,
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A data file, without answers; - reads a text a line.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="One input, instead of DATA.")] = None,
    output: options.Predictions = None,
    base: options.Base = None,
    max_new_tokens: options.MaxNewTokens = None,
    min_new_tokens: options.MinNewTokens = None,
    num_beams: options.NumBeams = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    sampling_seed: options.SamplingSeed = None,
    repetition_penalty: options.RepetitionPenalty = None,
    stop: options.Stop = None,
    skip_bad: options.SkipBad = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Predict for a data file or for one text.

    A row's own columns and its id are in the output, so that it can be joined.
    """
    if (data is None) == (text is None):
        raise SettingsError("give DATA or --text, one of the two", hint="foreword predict FILE --text 'some text'")
    if workers or ray:
        more = {"base": base, "skip_bad": bool(skip_bad), **options.decoding(context)}
        return _shared_out(file, data, output, (workers or 2, ray), json, more)
    source: object = _lines() if data == "-" else data
    with work(loads=True) as progress:
        from foreword import api

        predictions = api.predict(
            file, source, text=text, base=base, output=output, skip_bad=bool(skip_bad), progress=progress,
            **options.decoding(context),
        )  # fmt: skip
    _print(predictions, output, text is not None, json)
    return 0


def _lines() -> list[str]:
    lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
    if not lines:
        raise SettingsError("standard input holds no text", where="-", expected="a text a line")
    return lines


def _print(predictions: Predictions, output: Path | None, single: bool, machine: bool) -> None:
    skipped = getattr(predictions, "skipped", ())
    for why in skipped[:5]:
        print(say(Message("skipped {why}", why=why)), file=sys.stderr)
    if skipped:
        print(say(Message("{n} rows were skipped", n=len(skipped))), file=sys.stderr)
    rows = [as_json(prediction) for prediction in predictions]
    if output is not None:
        summary = {"file": str(output), "rows": len(rows), **({"skipped": len(skipped)} if skipped else {})}
        print_json(summary) if machine else _say_written(len(rows), output)
    elif single:
        print_json(rows[0]) if machine else print(rows[0]["output"])
    elif machine:
        print_json(rows)
    else:
        print_rows(rows, ("id", "input", "output", "score"))


def _say_written(rows: int, output: Path) -> None:
    print(say(Message("{n} predictions in {output}", n=rows, output=output)))


def _shared_out(
    file: Path, data: str | None, output: Path | None, workers: tuple[int, str | None], machine: bool,
    more: dict[str, Any],
) -> int:  # fmt: skip
    """Rows shared out over workers; what they say is in the output file."""
    if data in (None, "-") or output is None:
        raise SettingsError("--workers takes a data file and --output", hint="foreword predict FILE DATA --output OUT")
    with work() as progress:
        from foreword import api

        rows = api.predict_all(file, str(data), output, api.Workers(*workers), progress=progress, **more)
    print_json({"file": str(output), "rows": rows}) if machine else _say_written(rows, output)
    return 0
