"""``python -m foreword.studio.serve_process FILE FOLDER PORT BASE``: serve a foreword with what it is compared to.

Beside the foreword stand ``prompt``, the text that it began from, and ``no-prompt``, the template alone, as files of
their own; then it is ``foreword serve``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from foreword.artifact.store import load, save
from foreword.core.inject.value import EMPTY, Foreword
from foreword.data.task.guidance import in_front
from foreword.data.task.task import Task
from foreword.errors import ForewordError
from foreword.serve.app.run_server import serve

SYSTEMS = ("no-prompt", "prompt", "foreword")


def write_systems(file: Path, folder: Path) -> None:
    """The files of the systems that a message is tried on."""
    value, manifest = load(file)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "foreword.foreword", value, manifest)
    task = Task.from_json(manifest.task)
    if task.head or not in_front(task) or not task.guidance:
        return
    for name, text in (("prompt", Foreword(text=task.guidance)), ("no-prompt", EMPTY)):
        if text.text != value.text or value.num_values:
            save(folder / f"{name}.foreword", text, manifest.model_copy(update={"method": "text", "golden": []}))


def serve_systems(file: str, folder: str, port: str, base: str) -> int:
    """Write the files and serve them until the process is told to stop; the exit code."""
    systems = Path(folder)
    try:
        write_systems(Path(file), systems)
        serve([systems], base=base or None, host="127.0.0.1", port=int(port))
    except ForewordError as error:
        sys.stderr.write(f"foreword: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(serve_systems(*sys.argv[1:]))
