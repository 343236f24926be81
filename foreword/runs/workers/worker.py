"""One run in a process of its own, here or on another machine: what pool.run_all hands out.

Other rooms have tasks of their own kind: a module with a ``perform`` that ends with ``sys.exit(answer(perform))``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foreword.errors import ForewordError
from foreword.runs.series import is_finished, member
from foreword.runs.use.use import predict_part
from foreword.settings.layers import from_json
from foreword.storage import write_atomically

STATE = "worker.json"


def perform(task: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a task: ``{"train": request}`` or ``{"predict": arguments}``; says what failed instead of raising.

    A run whose process was killed goes on from its last checkpoint; one that is finished is only read.
    """
    try:
        if "train" in task:
            request = from_json(task["train"], "a run's settings").request()
            folder = Path(request.output_dir)
            if not is_finished(folder):
                member(request, folder.name, WorkerProgress(folder))
        else:
            predict_part(**task["predict"])
    except ForewordError as problem:
        return {"error": str(problem), "kind": type(problem).__name__}
    return {"error": None}


class WorkerProgress:
    """Progress for whoever waits, in a file of the run's folder, at most once a second."""

    def __init__(self, folder: Path) -> None:
        self.path, self.last = folder / STATE, 0.0

    def __call__(self, name: str, done: int, total: int, **fields: object) -> None:
        now = time.monotonic()
        if now - self.last > 1 and self.path.parent.is_dir():
            self.last = now
            state = {"pid": os.getpid(), "at": name, "done": done, "total": total}
            write_atomically(self.path, [json.dumps(state).encode()])


def answer(perform: Callable[[Mapping[str, Any]], dict[str, Any]]) -> int:
    """Take a task from standard input; what ``perform`` says to it is the last line of standard output."""
    task = json.load(sys.stdin)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    found = perform(task)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _end_without(parent: int) -> None:
    """Stop, with the state saved, when the process that handed the task out is gone: it may be started again, and then
    two would work in one folder."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(answer(perform))
