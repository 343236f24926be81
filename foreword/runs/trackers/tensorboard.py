"""TensorBoard: event files in the run's folder, a curve a learning rate. ``tensorboard --logdir RUN/tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreword.runs.trackers.base import Tracker


class TensorBoard(Tracker):
    """Event files by torch's own writer."""

    name, package = "tensorboard", "tensorboard"

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]) -> None:
        self._folder = folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def log(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """A scalar each."""
        if trial not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[trial] = SummaryWriter(str(self._folder / trial))
        for name, value in values.items():
            self._writers[trial].add_scalar(name, value, step)
        self._writers[trial].flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
