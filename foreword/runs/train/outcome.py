"""What a run learned, and what that was worth on test: two values that the end of a run hands on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.artifact.manifest import MAX_GOLDEN
from foreword.core.inject.value import Foreword
from foreword.data.row import Row
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.examples import Example
from foreword.evaluation.predictions import Prediction, write_jsonl
from foreword.evaluation.report.summary import compare, evaluate
from foreword.evaluation.statistics.differences import Difference
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.runs.train.alarms import alarms_on_test
from foreword.runs.train.dev_score import metric_names, with_and_without, with_thresholds
from foreword.training.loop import Score
from foreword.training.lr_search import Sweep

NOTHING_GAINED = Message("nothing was gained on dev over the text prompt: the text itself is saved")


_BEGINNING = 40
"""Characters of a plain text that a golden row begins with."""


@dataclass(frozen=True)
class Outcome:
    """What a run learned, chosen on dev.

    Args:
        value: what is saved.
        score: its score on dev.
        sweep: how its learning rate was found; without a trial where nothing was trained.
        prompt: the text prompt that it is compared with, None where there is none.
        floor: the prompt's score on dev, None where it was not measured.
        alarms: what the user should know.
        course: what sampling and augmentation did to the training rows (:func:`training_rows.facts_of`).
        began: when the run began, on the clock that only goes forward.
    """

    value: Foreword
    score: Score | None
    sweep: Sweep = field(default_factory=Sweep)
    prompt: Foreword | None = None
    floor: Score | None = None
    alarms: tuple[str, ...] = ()
    course: Mapping[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def chosen(cls, sweep: Sweep, prompt: Foreword, floor: Score | None, **more: Any) -> Outcome:
        """What was learned, or the prompt where that was as good on dev: a tie goes to the prompt.

        Args:
            floor: the prompt's score; None: there is no prompt to compare with.
            more: the other fields.
        """
        best = sweep.trial.progress.best if sweep.trial else None
        compared = None if floor is None else prompt
        if floor is not None and (best is None or not best.above(floor)):
            more["alarms"] = (*more.get("alarms", ()), NOTHING_GAINED)
            return cls(prompt, floor, sweep, compared, floor, **more)
        value = sweep.trial.best() if sweep.trial else prompt
        return cls(value, best, sweep, compared, floor, **more)

    @property
    def learned(self) -> bool:
        """Whether something learned is saved, and not the text prompt."""
        return self.value.num_values > 0


@dataclass(frozen=True)
class Evaluation:
    """What an outcome was worth on test.

    Args:
        answers: predictions of ``prompt`` and ``foreword`` on test, where there is one, and of ``golden`` rows.
        systems: the figures of the first two.
        difference: foreword minus prompt, paired.
        task: what is saved: with thresholds chosen on dev for the outcome, where a row may have several labels.
        guidance: where it was brought in gradually, the dev metric of each system ``with`` and ``without`` it.
        notes: words that were cut off, a sentence a split, and what the answers on test warn of.
    """

    answers: Mapping[str, list[Prediction]]
    systems: Mapping[str, dict[str, Any]]
    difference: Difference | None
    guidance: Mapping[str, dict[str, float]]
    task: Task
    notes: tuple[str, ...] = ()


def evaluate_outcome(prepared: Prepared, outcome: Outcome, folder: Path) -> Evaluation:
    """Ask both systems the test rows; their answers are written to ``folder/predictions``."""
    answers, task = _answers(prepared, outcome)
    for name, rows in answers.items():
        write_jsonl(folder / "predictions" / f"{name}.jsonl", rows)
    names = metric_names(task, prepared.request.task_options.metrics)
    systems = {
        name: evaluate(rows, task.kind, names, task.labels) for name, rows in answers.items() if name != "golden"
    }
    both = "foreword" in answers and "prompt" in answers
    difference = compare(answers["foreword"], answers["prompt"], task.metric) if both else None
    guidance = {}
    if prepared.plain:
        wanted = {**({} if outcome.prompt is None else {"prompt": outcome.prompt}), "foreword": outcome.value}
        guidance = with_and_without(prepared.asker, prepared.examples["dev"], prepared.plain["dev"], wanted)
    notes = [*cut_words(prepared.examples), *(alarms_on_test(answers, systems) if outcome.learned else [])]
    return Evaluation(answers, systems, difference, guidance, task, tuple(notes))


def _answers(prepared: Prepared, outcome: Outcome) -> tuple[dict[str, list[Prediction]], Task]:
    """Predictions on test of both systems, and on the golden rows; the task as the outcome was asked."""
    report = prepared.request.progress or say_nothing
    rows = prepared.examples.get("test", [])
    systems = {}
    if rows and outcome.prompt is not None and outcome.prompt is not outcome.value:
        systems["prompt"] = outcome.prompt
    if rows:
        systems["foreword"] = outcome.value
    dev = prepared.examples["dev"]
    askers = {name: with_thresholds(prepared.asker, value, dev) for name, value in systems.items()}
    answers = {
        name: askers[name].answer(value, rows, partial(report, f"test: {name}")) for name, value in systems.items()
    }
    asker = askers["foreword"] if rows else with_thresholds(prepared.asker, outcome.value, dev)
    answers["golden"] = asker.answer(outcome.value, golden_rows_of(prepared)[1])
    return answers, asker.task


def golden_rows_of(prepared: Prepared) -> tuple[list[Row], list[Example]]:
    """Rows of test (or dev) that whoever has the file can ask again, and the same as token ids.

    Plain texts are measured and not answered, so that their beginnings are asked for what follows them.
    """
    split = "test" if prepared.examples.get("test") else "dev"
    rows, examples = list(prepared.tables[split].rows[:MAX_GOLDEN]), prepared.examples[split][:MAX_GOLDEN]
    if not prepared.task.plain:
        return rows, list(examples)
    [name] = parsed(prepared.task.template).fields
    rows = [replace(row, fields={name: str(row.fields[name])[:_BEGINNING]}) for row in rows]
    encoder = prepared.asker.encoder(prepared.request.task_options.first_k)
    return rows, encoder.encode(rows, labelled=False)


def cut_words(examples: Mapping[str, Sequence[Example]]) -> list[str]:
    """How many words to tag lie behind the first k tokens, a sentence a split; nothing where none does."""
    notes: list[str] = []
    for name, rows in examples.items():
        lost = [row.places.count(-1) for row in rows]
        if any(lost):
            words, short = sum(lost), sum(map(bool, lost))
            notes.append(
                Message(
                    "{n:,} words of {m:,} rows of {name} were cut off; they count as outside of every span",
                    n=words,
                    m=short,
                    name=name,
                )
            )
    return notes
