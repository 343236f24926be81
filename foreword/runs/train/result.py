"""The end of a run: test figures beside the prompt's, the file with its golden rows, the report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from foreword.artifact.manifest import MAX_GOLDEN, BaseRecord, Golden, Manifest, MetricRecord
from foreword.artifact.store import save
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.evaluation.predictions import Prediction, write_jsonl
from foreword.evaluation.report.rows_to_read import rows_to_read
from foreword.evaluation.report.summary import (
    compare,
    evaluate,
    figure_text,
    heading,
    manifest_metrics,
    render,
    sentence,
)
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.intervals import Difference, Interval
from foreword.runs.prepare.prepare import Prepared, plain_settings, say_nothing, shown
from foreword.runs.train.dev_score import metric_names, with_and_without
from foreword.training.loop import Score
from foreword.training.lr_search import Sweep

_LIBRARIES = ("foreword", "torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Args:
        file: the ``.foreword`` file.
        outcome: ``"learned"``, or ``"text"`` where nothing beat the prompt on dev.
        systems: name (``prompt``, ``foreword``) -> figures on the test split (see ``evaluation.summary.evaluate``).
        difference: foreword minus prompt on test, paired; None without a test split or a prompt to compare with.
        dev: the dev score that chose it; ``floor`` is the prompt's.
        learning_rate: the winner's; None for a text.
        alarms: what the user should know.
        course: what sampling and augmentation did to the training rows, and with ``ablate`` what they gained on dev.
        seconds: wall time of the whole run.
        guidance: where it was brought in gradually, the dev metric of each system ``with`` and ``without`` it.
    """

    file: str
    outcome: str
    metric: str
    systems: dict[str, Any]
    difference: dict[str, Any] | None
    dev: float | None
    floor: float | None
    learning_rate: float | None
    bytes: int
    num_values: int
    rows: dict[str, int]
    alarms: list[str] = field(default_factory=list)
    course: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    guidance: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        del values["text"]
        return values

    def __str__(self) -> str:
        return self.text

    def render(self) -> str:
        """For people."""
        return self.text


def finish(
    prepared: Prepared,
    folder: Path,
    value: Foreword,
    prompt: Foreword | None,
    score: Score | None,
    floor: Score | None,
    found: Sweep,
    alarms: list[str],
    began: float,
    course: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Evaluate on test, save ``folder/model.foreword`` and the reports."""
    task = prepared.task
    alarms = [*alarms, *cut_words(prepared.examples)]
    answers = _answers(prepared, value, prompt)
    for name, rows in answers.items():
        write_jsonl(folder / "predictions" / f"{name}.jsonl", rows)
    systems = {
        name: evaluate(rows, task.kind, metric_names(task, prepared.request.task_options.metrics), task.labels)
        for name, rows in answers.items()
        if name != "golden"
    }
    difference = None
    if "foreword" in answers and "prompt" in answers:
        difference = compare(answers["foreword"], answers["prompt"], task.metric)
    figures = manifest_metrics(systems["foreword"]) if "foreword" in systems else {}
    manifest = _manifest(prepared, value, found, figures, answers["golden"])
    path = folder / "model.foreword"
    save(path, value, manifest)
    trial = found.trial
    learned = value.num_values > 0
    guidance = {}
    if prepared.plain:
        wanted = {**({} if prompt is None else {"prompt": prompt}), "foreword": value}
        guidance = with_and_without(prepared.asker, prepared.examples["dev"], prepared.plain["dev"], wanted)
    result = TrainResult(
        file=str(path),
        outcome="learned" if learned else "text",
        metric=task.metric,
        systems=systems,
        difference=None if difference is None else difference.to_json(),
        dev=None if score is None else score.metric,
        floor=None if floor is None else floor.metric,
        learning_rate=trial.learning_rate if learned and trial is not None else None,
        bytes=path.stat().st_size,
        num_values=value.num_values,
        rows={name: len(rows) for name, rows in prepared.examples.items()},
        alarms=alarms,
        seconds=round(time.monotonic() - began, 3),
        course=dict(course or {}),
        guidance=guidance,
        text=_text(path, task, value, systems, difference, [*alarms, *_course_notes(course or {})], guidance),
    )
    write_report(folder, _report(prepared, result, found, answers))
    return result


def _answers(prepared: Prepared, value: Foreword, prompt: Foreword | None) -> dict[str, list[Prediction]]:
    """Predictions on test of both systems, and on the golden rows."""
    report = prepared.request.progress or say_nothing
    rows = prepared.examples.get("test", [])
    out: dict[str, list[Prediction]] = {}
    if rows:
        wanted = {"foreword": value}
        if prompt is not None and prompt is not value:
            wanted = {"prompt": prompt, **wanted}
        for name, one in wanted.items():
            out[name] = prepared.asker.answer(one, rows, partial(report, f"test: {name}"))
    golden = (rows or prepared.examples["dev"])[:MAX_GOLDEN]
    out["golden"] = prepared.asker.answer(value, golden)
    return out


def _manifest(
    prepared: Prepared, value: Foreword, found: Sweep, figures: dict[str, Any], answers: list[Prediction]
) -> Manifest:
    split = "test" if prepared.examples.get("test") else "dev"
    table, base = prepared.tables[split], prepared.base
    labels = prepared.task.labels
    golden = [
        Golden(
            input=plain_settings(row.fields),
            input_ids=list(example.input_ids),
            output=answer.output,
            scores=[answer.scores[label] for label in labels] if prepared.task.kind == "classification" else None,
        )
        for row, example, answer in zip(table.rows, prepared.examples[split], answers, strict=False)
    ]
    trial = found.trial
    return Manifest(
        base=record_of(base),
        method=prepared.method.name if value.num_values else "text",
        settings={
            "method": plain_settings(prepared.method.settings()),
            "training": plain_settings(prepared.request.settings.to_json()),
            "first_k": prepared.request.task_options.first_k,
            "learning_rate": None if trial is None else trial.learning_rate,
        },
        task=plain_settings(prepared.task.to_json()),
        positions=find_sites(base.model).positions if value.num_virtual_tokens else "content",
        data_lock=plain_settings(prepared.lock.to_json(ids=False)),
        metrics={name: MetricRecord(**figure) for name, figure in figures.items()},
        golden=golden,
        text=value.text,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=versions(),
    )


def record_of(base: Base) -> BaseRecord:
    """What a file says of its base."""
    return BaseRecord(
        id=base.id,
        revision=base.revision,
        architecture=base.architecture,
        kind=base.kind,
        fingerprint=base.fingerprint,
    )


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _text(
    path: Path,
    task: Task,
    value: Foreword,
    systems: dict[str, Any],
    difference: Any,
    alarms: list[str],
    guidance: dict[str, dict[str, float]],
) -> str:
    lines = [*shown(task), *(f"note: {alarm}" for alarm in alarms)]
    if systems:
        lines.append(render(systems, difference).rstrip())
    for kind, figures in guidance.items():
        shares = ", ".join(f"{name} {figure_text(task.metric, figure)}" for name, figure in figures.items())
        lines.append(f"{heading(task.metric)} on dev {kind} the guidance: {shares}")
    kind = "a text prompt" if not value.num_values else f"{value.num_values:,} values"
    if value.slots is not None:
        kind = f"{value.slots.shape[0]} soft slot{'s' if value.slots.shape[0] > 1 else ''}, {kind}"
    if value.num_virtual_tokens:
        plural = "s" if value.num_virtual_tokens > 1 else ""
        kind = f"{value.num_virtual_tokens} virtual token{plural}, {kind}"
    lines.append(f"saved {path} ({kind}, {path.stat().st_size:,} bytes)")
    return "\n".join(lines)


def cut_words(examples: Mapping[str, Sequence[Example]]) -> list[str]:
    """How many words to tag lie behind the first k tokens, a sentence a split; nothing where none does."""
    notes = []
    for name, rows in examples.items():
        lost = [row.places.count(-1) for row in rows]
        if any(lost):
            words, short = sum(lost), sum(map(bool, lost))
            notes.append(
                f"{words:,} words of {short:,} rows of {name} were cut off; they count as outside of every span"
            )
    return notes


def _course_notes(course: Mapping[str, Any]) -> list[str]:
    """What sampling and augmentation did, and what it was worth, a sentence each."""
    notes = [f"the training rows were drawn by {course['sampling']}"] if "sampling" in course else []
    if "augment" in course:
        changed = f"{course['words_changed']:,} words changed" if course["words_changed"] else ""
        changed = changed or ("the template changed" if "template" in course["augment"] else "no word changed")
        alike = f"; the base reads {course['rows_read_alike']:,} of them as they were"
        notes.append(
            f"{course['rows_changed']:,} of {course['of_rows']:,} training rows were varied"
            f" ({', '.join(course['augment'])}; {changed}){alike if course['rows_read_alike'] else ''}"
        )
    ablation = course.get("ablation")
    if ablation and ablation["difference"]:
        with_it, without = (figure_text(ablation["metric"], abs(ablation[name])) for name in ("with", "without"))
        interval = ablation["difference"]["interval"]
        low, high = (figure_text(ablation["metric"], interval[end], True) for end in ("low", "high"))
        notes.append(f"on dev {with_it} with that and {without} without (difference {low} to {high}, paired)")
    return notes


def _report(
    prepared: Prepared, result: TrainResult, found: Sweep, answers: dict[str, list[Prediction]]
) -> dict[str, Any]:
    base = prepared.base
    lock = prepared.lock.to_json(ids=False)
    return {
        "title": f"{prepared.request.method} on {base.id.rsplit('/', 1)[-1]}",
        "verdict": _verdict(result, bool(prepared.method.learning_rates)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": result.alarms,
        "systems": result.systems,
        "difference": result.difference,
        "base": {
            "id": base.id,
            "revision": base.revision,
            "architecture": base.architecture,
            "kind": base.kind,
            **base.fingerprint,
        },
        "method": {"name": prepared.method.name, **plain_settings(prepared.method.settings())},
        "task": plain_settings(prepared.task.to_json()),
        "settings": plain_settings(prepared.request.settings.to_json()),
        "file": {"path": result.file, "bytes": result.bytes, "values": result.num_values, "outcome": result.outcome},
        "versions": versions(),
        "again": f"foreword train --config {Path(result.file).parent}/settings.yaml --output-dir AGAIN",
        "data": {
            name: {
                "rows": len(table),
                "file": table.name,
                "digest": lock[name]["ids_digest"],
                "dropped": json.dumps(prepared.dropped.get(name, {})),
            }
            for name, table in prepared.tables.items()
        },
        "training": _training(prepared, result, found),
        "rows": _rows(answers, prepared.task.metric),
    }


def _training(prepared: Prepared, result: TrainResult, found: Sweep) -> dict[str, Any]:
    trial, metric = found.trial, prepared.task.metric
    training: dict[str, Any] = {
        "metric": metric,
        "seconds": result.seconds,
        "dev": result.dev,
        "prompt_on_dev": result.floor,
        **found.speed,
        **({"rows": result.course} if result.course else {}),
        **({"guidance_on_dev": result.guidance} if result.guidance else {}),
    }
    if trial is not None:
        training |= {
            "learning_rate": trial.learning_rate,
            "best_step": trial.progress.best_step,
            "stopped_early": trial.progress.stopped,
            "steps": [{"step": s.step, "loss": s.loss} for s in trial.progress.steps],
            "evaluations": [{"step": e.step, "value": e.score.metric} for e in trial.progress.evaluations],
            "sweep": [
                {
                    "learning_rate": o.learning_rate,
                    "steps": o.steps,
                    "value": o.score.metric if o.score else None,
                    "failure": o.failure,
                }
                for o in found.outcomes
            ],
        }
    return training


def _verdict(result: TrainResult, trained: bool) -> str:
    if not trained:
        return "The text prompt was measured and saved; nothing was trained."
    if result.outcome == "text":
        return "Nothing learned beat the prompt on dev: the prompt itself was saved."
    if result.difference is None and result.systems:
        return "A foreword was learned; its figures stand alone here."
    if result.difference is None:
        return "A foreword was learned; there was no test split to compare it with the prompt on."
    found = Difference(**{**result.difference, "interval": Interval(**result.difference["interval"])})
    return sentence(found)


def _rows(answers: dict[str, list[Prediction]], metric: str) -> list[dict[str, Any]]:
    """Rows worth reading, by the prompt and the foreword."""
    if "foreword" not in answers:
        return []
    return rows_to_read({name: answers[name] for name in ("prompt", "foreword") if name in answers}, metric)
