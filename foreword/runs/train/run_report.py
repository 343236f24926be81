"""The report of a run: ``report.json|md|html``, and the text for the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.data.task.task import Task
from foreword.data.tokens.tokenize import label_end_note
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.rows_to_read import rows_to_read
from foreword.evaluation.report.summary import figure_text, footnote, heading, named, render, sentence
from foreword.evaluation.report.verdict_text import Verdict
from foreword.evaluation.report.write_report import write_report
from foreword.messages import Message, say_if_known
from foreword.runs.prepare.base import precision_note
from foreword.runs.prepare.classifier_base import own_head_note
from foreword.runs.prepare.prepare import Prepared, plain_settings
from foreword.runs.prepare.ready_data import shown
from foreword.runs.train.data_notes import data_notes
from foreword.runs.train.outcome import Evaluation, Outcome
from foreword.runs.train.result import TrainResult, versions
from foreword.runs.train.run_verdict import judge
from foreword.training.lr_search import Sweep


def write_run_report(prepared: Prepared, outcome: Outcome, evaluation: Evaluation, path: Path) -> TrainResult:
    """Write the reports beside the file at ``path``; what the run came to, with its text for people."""
    alarms = [*outcome.alarms, *evaluation.notes, *data_notes(prepared)]
    verdict = judge(prepared, outcome, evaluation)
    trial, value = outcome.sweep.trial, outcome.value
    result = TrainResult(
        file=str(path),
        outcome="learned" if outcome.learned else "text",
        metric=prepared.task.metric,
        systems=dict(evaluation.systems),
        difference=None if evaluation.difference is None else evaluation.difference.to_json(),
        dev=None if outcome.score is None else outcome.score.metric,
        floor=None if outcome.floor is None else outcome.floor.metric,
        learning_rate=trial.learning_rate if outcome.learned and trial is not None else None,
        bytes=path.stat().st_size,
        num_values=value.num_values,
        rows={name: len(rows) for name, rows in prepared.examples.items()},
        alarms=alarms,
        state=verdict.state,
        verdict=list(verdict.lines),
        seconds=round(time.monotonic() - outcome.began, 3),
        course=dict(outcome.course),
        guidance=dict(evaluation.guidance),
        text=_text(prepared, outcome, evaluation, path, verdict),
    )
    write_report(path.parent, _report(prepared, outcome, evaluation, result))
    return result


def _text(prepared: Prepared, outcome: Outcome, evaluation: Evaluation, path: Path, verdict: Verdict) -> str:
    """For people, what the run came to."""
    metric = prepared.task.metric
    alarms = [*outcome.alarms, *evaluation.notes, *data_notes(prepared), *_course_notes(outcome.course)]
    ends = [*label_end_note(prepared.task, prepared.base.tokenizer), *_thresholds(evaluation.task)]
    lines = [*shown(prepared.task), *ends]
    lines += precision_note(prepared.base) if prepared.base.dtype.itemsize < 4 else []
    lines += own_head_note(prepared.task, prepared.base)
    lines += [Message("note: {text}", text=named(alarm)) for alarm in alarms]
    if evaluation.systems:
        # Where the difference is the verdict, it is the sentence below the table; else the verdict says what it is.
        told = evaluation.difference if verdict.state in ("better", "worse", "cannot_tell") else None
        lines.append(render(evaluation.systems).rstrip())
        lines += verdict.lines if told is None else (sentence(told), *verdict.lines[1:])
        lines += [] if evaluation.difference is None else [footnote(evaluation.difference.to_json())]
    else:
        lines += verdict.lines
    for kind, figures in evaluation.guidance.items():
        shares = ", ".join(f"{name} {figure_text(metric, figure)}" for name, figure in figures.items())
        lines.append(
            Message("{heading} on dev {kind} the guidance: {shares}", heading=heading(metric), kind=kind, shares=shares)
        )
    lines.append(
        Message(
            "saved {path} ({contents}, {size:,} bytes)",
            path=path,
            contents=_contents(outcome.value),
            size=path.stat().st_size,
        )
    )
    return "\n".join(map(say_if_known, lines))


def _thresholds(task: Task) -> list[str]:
    """Above which probability a label is said, where that was chosen on dev."""
    shown = ", ".join(f"{label} {task.thresholds[label]:.2f}" for label in task.labels if label in task.thresholds)
    return [Message("thresholds chosen on dev: {names}", names=shown)] if shown else []


def _contents(value: Foreword) -> str:
    """What a file holds: ``a text prompt``, ``8 virtual tokens, 4,096 values``."""
    kind = Message("{n:,} values", n=value.num_values) if value.num_values else Message("a text prompt")
    if value.slots is not None:
        kind = Message("{n} soft slot{n!p}, {rest}", n=value.slots.shape[0], rest=kind)
    if value.num_virtual_tokens:
        kind = Message("{n} virtual token{n!p}, {rest}", n=value.num_virtual_tokens, rest=kind)
    return kind


def _course_notes(course: Mapping[str, Any]) -> list[str]:
    """What sampling and augmentation did, and what it was worth, a sentence each."""
    notes: list[str] = []
    if "sampling" in course:
        notes.append(Message("the training rows were drawn by {value}", value=course["sampling"]))
    if "augment" in course:
        changed = Message("{value:,} words changed", value=course["words_changed"]) if course["words_changed"] else ""
        unchanged = Message("the template changed") if "template" in course["augment"] else Message("no word changed")
        changed = changed or unchanged
        alike = Message("; the base reads {value:,} of them as they were", value=course["rows_read_alike"])
        notes.append(
            Message(
                "{value:,} of {a:,} training rows were varied ({names}; {changed}){b}",
                value=course["rows_changed"],
                a=course["of_rows"],
                names=", ".join(course["augment"]),
                changed=changed,
                b=alike if course["rows_read_alike"] else "",
            )
        )
    ablation = course.get("ablation")
    if ablation and ablation["difference"]:
        with_it, without = (figure_text(ablation["metric"], abs(ablation[name])) for name in ("with", "without"))
        interval = ablation["difference"]["interval"]
        low, high = (figure_text(ablation["metric"], interval[end], True) for end in ("low", "high"))
        notes.append(
            Message(
                "on dev {with_it} with that and {without} without (difference {low} to {high}, paired)",
                with_it=with_it,
                without=without,
                low=low,
                high=high,
            )
        )
    return notes


def _report(prepared: Prepared, outcome: Outcome, evaluation: Evaluation, result: TrainResult) -> dict[str, Any]:
    base = prepared.base
    lock = prepared.lock.to_json(ids=False)
    return {
        "title": title_of(prepared),
        "subtitle": _subtitle(prepared),
        "verdict": result.verdict[0],
        "verdict_lines": result.verdict,
        "state": result.state,
        "metric": result.metric,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": result.alarms,
        "systems": result.systems,
        "difference": result.difference,
        "base": {
            "id": base.id,
            "revision": base.revision,
            "architecture": base.architecture,
            "kind": base.kind,
            **base.precision(),
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
        "training": _training(prepared, outcome.sweep, result),
        "rows": _rows(evaluation.answers, prepared.task.metric),
    }


def _training(prepared: Prepared, sweep: Sweep, result: TrainResult) -> dict[str, Any]:
    trial, metric = sweep.trial, prepared.task.metric
    training: dict[str, Any] = {
        "metric": metric,
        "seconds": result.seconds,
        "dev": result.dev,
        "prompt_on_dev": result.floor,
        **sweep.speed,
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
                for o in sweep.results
            ],
        }
    return training


def title_of(prepared: Prepared) -> Message:
    """What was asked of which file: ``reviews.csv: negative or positive?``"""
    task, file = prepared.task, Path(prepared.tables["train"].name).name
    if task.kind == "classification" and len(task.labels) == 2:
        return Message("{file}: {a} or {b}?", file=file, a=task.labels[0], b=task.labels[1])
    if task.kind == "classification":
        return Message("{file}: which of {n} labels?", file=file, n=len(task.labels))
    if task.kind == "multilabel":
        return Message("{file}: which of {n} labels, one or several?", file=file, n=len(task.labels))
    if task.kind == "tagging":
        return Message("{file}: which words are marked?", file=file)
    return Message("{file}: what to write?", file=file)


def _subtitle(prepared: Prepared) -> Message:
    """The base's short name, the method, the rows and the date."""
    return Message(
        "{base}; {method}; {rows} rows; {date}",
        base=prepared.base.id.rstrip("/").rsplit("/", 1)[-1],
        method=prepared.request.method,
        rows=f"{sum(map(len, prepared.tables.values())):,}",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )


def _rows(answers: Mapping[str, list[Prediction]], metric: str) -> list[dict[str, Any]]:
    """Rows worth reading, by the prompt and the foreword."""
    if "foreword" not in answers:
        return []
    return rows_to_read({name: answers[name] for name in ("prompt", "foreword") if name in answers}, metric)
