"""Distillation: a short foreword that answers like a long text in front of the same base, learned without labels.

The teacher is the base with a long prompt, many examples or a document in front. Its answers are the labels, and all
that it finds likely at their places is the target. The student begins as the teacher's own keys and values, thinned to
P, and is trained as any prefix is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from foreword.core.inject.initial_values import from_ids
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example, eval_batches
from foreword.errors import Interrupted, SettingsError
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.messages import Message
from foreword.methods.base import Writer, make
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.prepare import Prepared, prepare, say_nothing
from foreword.runs.train.dev_score import DevScore
from foreword.runs.train.finish import finish
from foreword.runs.train.interrupt import Interrupts, interruptible
from foreword.runs.train.outcome import Outcome
from foreword.runs.train.run_record import record_run, to_resume
from foreword.runs.train.train import learn
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.studies.distill.distill_result import DistillResult, write_result
from foreword.studies.distill.matched_start import matched
from foreword.studies.distill.rows import with_answers, with_targets, write_rows
from foreword.studies.distill.self_questions import questions
from foreword.studies.distill.settings import DistillSettings
from foreword.studies.distill.teacher import Teacher, read_text
from foreword.training.objective import Objective
from foreword.training.soft_targets import Imitate, Taught

# Rows whose queries the student's first keys and values are matched on.
MATCHED_ROWS = 32
START_KEPT = Message("training did not come nearer to the teacher on dev than the student's start: the start is saved")


@dataclass(frozen=True)
class Distilling(Prepared):
    """A run whose objective is what the teacher says."""

    teacher: Taught | None = None

    def objective(self, writer: Writer) -> Objective:
        assert self.teacher is not None
        with torch.no_grad():
            return Imitate(self.asker.objective(writer.write()), self.teacher)


@in_its_folder
def distill(request: TrainRequest, settings: DistillSettings) -> DistillResult:
    """Learn a short foreword that answers like a long text.

    Writes into ``request.output_dir`` what a training run writes, ``teacher/`` with the rows that the teacher answered,
    and ``distill.json``.

    Args:
        request: rows (with or without answers), base and task as for training. ``data`` may be None where the teacher
            is a document: the base then asks itself about it.
        settings: the teacher and the student.

    Raises:
        SettingsError: a teacher or a method that cannot be.
        DataError: the rows are refused.
        UnsupportedBaseError: the base is no decoder whose texts are keys and values.
        Interrupted: stopped by the user; the last state is saved.
    """
    began, folder = time.monotonic(), Path(request.output_dir)
    if request.method != "prefix":
        raise SettingsError("a distilled foreword is a prefix", where="--method", received=request.method)
    prepared, teacher, labelled, empty = _answered(request, settings, folder)
    taught = _taught(prepared, teacher, settings)
    start = initial(prepared, teacher, settings)
    student = _student(prepared, settings, start, taught)
    with interruptible() as interrupts:
        try:
            return _run(_Work(student, teacher, start, settings, labelled, empty), folder, began, interrupts)
        except KeyboardInterrupt:
            hint = Message("go on with `foreword distill --resume {folder}`", folder=folder)
            raise Interrupted("interrupted; the run's last state is saved", where=str(folder), hint=hint) from None


def resume_distillation(folder: str | Path, progress: ProgressCall | None = None) -> DistillResult:
    """Go on with an interrupted distillation. Raises ResumeError where there is none, or its data have changed."""
    request, more = to_resume(folder, "distill", progress, more="distill")
    return distill(request, DistillSettings(**more))


@dataclass(frozen=True)
class _Work:
    """What a distillation has when training begins.

    Args:
        labelled: whether the rows had right answers of their own.
        empty: rows that the teacher answered with nothing.
    """

    student: Distilling
    teacher: Teacher
    start: Foreword
    settings: DistillSettings
    labelled: bool
    empty: int


def _answered(request: TrainRequest, settings: DistillSettings, folder: Path) -> tuple[Prepared, Teacher, bool, int]:
    """The run over rows with the teacher's answers, the teacher, whether test has the user's own right answers, and how
    many rows were answered with nothing."""
    report = request.progress or say_nothing
    sized = {**request.method_settings, "num_virtual_tokens": settings.num_virtual_tokens}
    request = replace(request, method_settings=sized)
    before, labelled = with_targets(_with_rows(request, settings, folder), folder)
    asked = prepare(before)
    if asked.task.head or asked.task.kind == "tagging":
        raise SettingsError("a teacher answers in words", where="--task", received=asked.task.kind)
    teacher = Teacher.of(asked, settings)
    record_run(folder, replace(asked, request=request), more={"distill": settings.to_json()})
    splits = [name for name in asked.examples if name != "test" or not labelled]
    answers = {
        name: _kept(
            folder / "teacher" / f"{name}-answers.jsonl",
            partial(teacher.answers, asked.examples[name], partial(report, f"the teacher answers {name}")),
        )
        for name in splits
    }
    after, empty = with_answers(asked, answers, teacher.shown, folder)
    again = prepare(replace(after, base=asked.base, skip_bad=True))
    return replace(again, request=replace(again.request, base=request.base)), teacher, labelled, empty


def _with_rows(request: TrainRequest, settings: DistillSettings, folder: Path) -> TrainRequest:
    """The request with rows: where it has none, the base's own questions about the document."""
    if request.data is not None:
        return request
    if settings.document is None:
        raise SettingsError("rows are missing", where="INPUTS", hint="give a file of rows; a document needs none")
    path, document = folder / "teacher" / "questions.jsonl", read_text(settings.document)
    if not path.exists():
        from foreword.core.base.load import load_base

        report = partial(request.progress or say_nothing, "the base asks about the document")
        base = load_base(request.base, device=request.settings.device, dtype=request.settings.dtype)
        write_rows(path, questions(base, document, settings.questions, request.settings.seed, report))
    options = request.task_options
    template = options.template or "Question: {{ question }}\nAnswer:"
    return replace(request, data=str(path), task_options=replace(options, template=template))


def _kept(path: Path, answer: Callable[[], list[Prediction]]) -> list[Prediction]:
    """Answers, given once and kept on disk."""
    if not path.exists():
        write_jsonl(path, answer())
    return read_jsonl(path)


def _taught(prepared: Prepared, teacher: Teacher, settings: DistillSettings) -> Taught:
    report = prepared.request.progress or say_nothing
    return teacher.taught(prepared.examples["train"], settings.top_k, partial(report, "what the teacher finds likely"))


def initial(prepared: Prepared, teacher: Teacher, settings: DistillSettings) -> Foreword:
    """What the student begins as; chance is the method's own to draw.

    Raises:
        UnsupportedBaseError: the base's texts cannot be matched.
    """
    length, ids = settings.num_virtual_tokens, teacher.ids
    model = prepared.base.model
    if settings.start == "match":
        return _nearest(prepared, teacher, settings)
    if settings.start == "first":
        return Foreword(sites=from_ids(model, ids[:length]))
    method = make("prefix", {"init": "random", "num_virtual_tokens": length})
    with torch.no_grad():
        return method.writer(prepared.start).write().detach()


def _nearest(prepared: Prepared, teacher: Teacher, settings: DistillSettings) -> Foreword:
    """Of the text thinned with weak and strong ridges, and of its first tokens, what is nearest to the teacher on rows
    that were not matched on (or on the same, where there are no others)."""
    model, length, train = prepared.base.model, settings.num_virtual_tokens, prepared.examples["train"]
    rows, held = train[:MATCHED_ROWS], train[MATCHED_ROWS : 2 * MATCHED_ROWS] or train
    taught = teacher.taught(held, settings.top_k, lambda done, total: None)
    thinned = matched(model, teacher.ids, [row.input_ids for row in rows], length)
    starts = [Foreword(sites=sites) for sites in (*thinned, from_ids(model, teacher.ids[:length]))]
    return min(starts, key=lambda start: divergence_of(prepared, start, taught, held))


def divergence_of(prepared: Prepared, value: Foreword, taught: Taught, rows: Sequence[Example]) -> float:
    """How far a foreword is from the teacher: the mean Kullback-Leibler divergence over the rows' places, in nats."""
    objective, asker = Imitate(prepared.asker.objective(value), taught), prepared.asker
    found: list[float] = []
    for batch in eval_batches(rows, asker.batch_size):
        chosen = [rows[i] for i in batch]
        with torch.no_grad(), injected(asker.model, [value]):
            found += objective.losses(objective.outputs(asker.model, chosen), chosen, value).tolist()
    return sum(found) / len(found)


def _student(prepared: Prepared, settings: DistillSettings, start: Foreword, taught: Taught) -> Distilling:
    own = {name: value for name, value in prepared.request.method_settings.items() if name != "num_virtual_tokens"}
    init = {"init": "foreword"} if settings.start != "random" else {
        "init": "random", "num_virtual_tokens": settings.num_virtual_tokens,
    }  # fmt: skip
    parts = {field.name: getattr(prepared, field.name) for field in fields(prepared)}
    parts |= {"method": make("prefix", {**own, **init}), "start": replace(prepared.start, foreword=start)}
    return Distilling(**parts, teacher=taught)


def _run(work: _Work, folder: Path, began: float, interrupts: Interrupts) -> DistillResult:
    student, report = work.student, work.student.request.progress or say_nothing
    dev = DevScore(student.asker, student.examples["dev"], partial(report, "evaluate on dev"))
    prompt = Foreword(text=student.task.guidance)
    floor, begun = dev(prompt), dev(work.start)
    found, alarms = learn(student, folder, dev, floor, interrupts)
    outcome = Outcome.chosen(found, prompt, floor, alarms=tuple(alarms), began=began)
    if begun.above(floor) and (outcome.score is None or begun.loss < outcome.score.loss):
        outcome = replace(outcome, value=work.start, score=begun, alarms=(*outcome.alarms, START_KEPT))
    trained = finish(student, outcome, folder)
    return write_result(
        trained, _systems(work, outcome, prompt, folder), work.settings, work.labelled, work.empty, folder
    )


def _systems(work: _Work, outcome: Outcome, prompt: Foreword, folder: Path) -> dict[str, tuple[int, list[Prediction]]]:
    """Every system's tokens in front of a row, and its answers to the test rows; the run has asked some already."""
    student, rows = work.student, work.student.examples.get("test") or work.student.examples["dev"]
    report = student.request.progress or say_nothing
    known = {
        id(value): folder / "predictions" / f"{name}.jsonl"
        for name, value in (("prompt", prompt), ("foreword", outcome.value))
    }
    found: dict[str, tuple[int, list[Prediction]]] = {}
    systems = {"prompt": prompt, "start": work.start, "foreword": outcome.value, "teacher": work.teacher.value}
    for name, value in systems.items():
        path = known.get(id(value))
        if path is not None and path.exists():
            answers = read_jsonl(path)
        else:
            answers = student.asker.answer(value, rows, partial(report, f"test: {name}"))
        found[name] = (len(work.teacher.ids) if name == "teacher" else _tokens(student, value), answers)
    return found


def _tokens(prepared: Prepared, value: Foreword) -> int:
    """What stands in front of a row."""
    return value.num_virtual_tokens or len(prepared.asker.lead(value))
