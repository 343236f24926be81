"""``foreword show FILE``: what a foreword is and how good it was."""

from __future__ import annotations

from foreword.cli import options, output

GROUP = "Use"
EXAMPLE = "foreword show run/model.foreword"


def command(file: options.ForewordFile, json: options.Json = False, verbose: options.Verbose = False) -> int:
    """Show what a .foreword file holds; no model is loaded."""
    with output.work():
        from foreword import api

        shown = api.show(file)
    output.show(shown, json)
    return 0
