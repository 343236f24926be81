"""``foreword verify FILE``: replay the rows that the file carries."""

from __future__ import annotations

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Use"
EXAMPLE = "foreword verify run/model.foreword"


def command(
    file: options.ForewordFile,
    base: options.Base = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> int:
    """Check that a foreword answers as when it was saved.

    Exits 1 when it does not.
    """
    with work(loads=True) as progress:
        from foreword import api

        report = api.verify(file, base=base, progress=progress)
    show(report, json)
    return 0 if report.ok else 1
