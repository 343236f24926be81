"""What a further process of a run does: the same run, with its share of the rows. Started by launch.py."""

from __future__ import annotations

import json
import sys

from foreword.errors import ForewordError, Interrupted
from foreword.runs.train.train import train
from foreword.settings.layers import from_json


def main() -> int:
    """Take the request from standard input and carry it out; the last line of stderr says what failed."""
    task = json.load(sys.stdin)
    try:
        train(from_json(task["request"], "the run's settings").request(resume=task["resume"]))
    except Interrupted:
        return 130
    except ForewordError as problem:
        print(str(problem).replace("\n", "; "), file=sys.stderr)  # noqa: T201 - for the process that started this one
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
