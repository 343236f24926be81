"""The end of a run: test figures beside the prompt's, the file with its golden rows, the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from foreword.artifact.manifest import Golden, Manifest, MetricRecord
from foreword.artifact.store import save
from foreword.core.base.device import number_format
from foreword.core.inject.sites import find_sites
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import manifest_metrics
from foreword.runs.prepare.prepare import Prepared, plain_settings
from foreword.runs.train.outcome import Evaluation, Outcome, evaluate_outcome, golden_rows_of
from foreword.runs.train.result import TrainResult, record_of, versions
from foreword.runs.train.run_report import write_run_report


def finish(prepared: Prepared, outcome: Outcome, folder: Path) -> TrainResult:
    """Evaluate on test, save ``folder/model.foreword``, write the reports."""
    evaluation = evaluate_outcome(prepared, outcome, folder)
    path = save_outcome(prepared, outcome, evaluation, folder)
    return write_run_report(prepared, outcome, evaluation, path)


def save_outcome(prepared: Prepared, outcome: Outcome, evaluation: Evaluation, folder: Path) -> Path:
    """Write ``folder/model.foreword`` and give its path."""
    path = folder / "model.foreword"
    save(path, outcome.value, _manifest(prepared, outcome, evaluation))
    return path


def _manifest(prepared: Prepared, outcome: Outcome, evaluation: Evaluation) -> Manifest:
    value, trial = outcome.value, outcome.sweep.trial
    figures = manifest_metrics(evaluation.systems["foreword"]) if "foreword" in evaluation.systems else {}
    return Manifest(
        base=record_of(prepared.base),
        method=prepared.method.name if value.num_values else "text",
        settings={
            "method": plain_settings(prepared.method.settings()),
            "training": plain_settings(prepared.request.settings.to_json()),
            "dtype": number_format(prepared.base.dtype),
            "first_k": prepared.request.task_options.first_k,
            "learning_rate": None if trial is None else trial.learning_rate,
        },
        task=plain_settings(evaluation.task.to_json()),
        positions=find_sites(prepared.base.model).positions if value.num_virtual_tokens else "content",
        data_lock=plain_settings(prepared.lock.to_json(ids=False)),
        metrics={name: MetricRecord(**figure) for name, figure in figures.items()},
        golden=_golden(prepared, evaluation.answers["golden"]),
        text=value.text,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=versions(),
    )


def _golden(prepared: Prepared, answers: Sequence[Prediction]) -> list[Golden]:
    """Rows of test (or dev) with their answers, which whoever has the file can ask again."""
    rows, examples = golden_rows_of(prepared)
    labels = prepared.task.labels
    return [
        Golden(
            input=plain_settings(row.fields),
            input_ids=list(example.input_ids),
            output=answer.output,
            scores=[answer.scores[label] for label in labels] if prepared.task.has_labels else None,
        )
        for row, example, answer in zip(rows, examples, answers, strict=False)
    ]
