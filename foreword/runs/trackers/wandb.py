"""Weights & Biases: a run in the project ``foreword`` (``WANDB_PROJECT``); ``WANDB_MODE=offline`` keeps it here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreword.runs.trackers.base import Tracker


class WandB(Tracker):
    """One run, whose figures are named by their learning rate; each has its own count of steps."""

    name, package = "wandb", "wandb"

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]) -> None:
        import wandb  # type: ignore[import-not-found, unused-ignore]

        project = os.environ.get("WANDB_PROJECT", "foreword")
        self._run = wandb.init(project=project, name=run, dir=str(folder), config=dict(settings))

    def log(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """All figures of a step at once."""
        self._run.log({f"{trial}/{name}": value for name, value in {**values, "step": step}.items()})

    def close(self) -> None:
        """End the run."""
        self._run.finish()
