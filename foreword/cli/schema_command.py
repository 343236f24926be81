"""``foreword schema > foreword.schema.json``: the JSON schema of a settings file, for editors."""

from __future__ import annotations

import json as jsonlib

from foreword.cli import options

GROUP = "Data"
EXAMPLE = "foreword schema > foreword.schema.json"


def command(json: options.Json = False, verbose: options.Verbose = False) -> int:
    """Print the JSON schema of settings files, for editors."""
    from foreword.settings.json_schema import settings_schema

    print(jsonlib.dumps(settings_schema(), indent=None if json else 2, ensure_ascii=False))
    return 0
