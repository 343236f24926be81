"""MLflow: a run where ``MLFLOW_TRACKING_URI`` says; without it, files in the folder where the command is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreword.runs.trackers.base import Tracker


class MLflow(Tracker):
    """One MLflow run, with a metric for each learning rate's figure."""

    name, package = "mlflow", "mlflow"

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]) -> None:
        import mlflow  # type: ignore[import-not-found, unused-ignore]

        self._mlflow = mlflow
        self._id = mlflow.start_run(run_name=run, nested=True).info.run_id  # several runs can train side by side
        mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})

    def log(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """A metric each."""
        self._mlflow.log_metrics(
            {f"{trial}/{name}": value for name, value in values.items()}, step=step, run_id=self._id
        )

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()
