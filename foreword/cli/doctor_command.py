"""``foreword doctor``: what this machine and this installation can do."""

from __future__ import annotations

from foreword.cli import options
from foreword.cli.output import show, work

GROUP = "Other"
EXAMPLE = "foreword doctor --json"


def command(json: options.Json = False, verbose: options.Verbose = False) -> int:
    """Show versions, devices, memory and caches."""
    with work():
        from foreword import api

        facts = api.doctor()
    show(facts, json)
    return 0
