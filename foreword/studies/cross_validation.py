"""Cross-validation: every row is a test row once, answered by a foreword that has not learned from it.

Where labels are few, a test split of a fifth of them tells little. Here the rows are divided into K folds; K trainings
learn from the other folds, and what they answer stands together: as many test rows as there are rows. Dev is the same
for all and never a test row, so that no rate and no step is chosen by a row that is judged. What is kept for use is one
more training, on all rows; the folds say what to expect of it.

The interval is that of the rows, for the models of these folds (Bayle et al. 2020). Folds share training rows, so their
answers are not independent: with the rows' own variance times 1 + test rows / training rows (the correction of Nadeau
and Bengio 2003, here for rows instead of folds) it held these models' mean accuracy in 95 to 97% of simulations with
logistic regression, and in 90 to 95% without. That another choice of training rows gives other models is in it only in
part, and no estimate from one cross-validation can put it there without bias (Bengio & Grandvalet 2004): the accuracy
that such a training has on average it held in 92 to 96%. The report says so.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from foreword.core.inject.value import Foreword
from foreword.data.quality.split import k_folds
from foreword.errors import Interrupted, NothingLearnedError, SettingsError
from foreword.evaluation.metrics.metric_registry import Metric, get_metric
from foreword.evaluation.report.summary import compare, evaluate, figure_text, heading, render, sentence
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.differences import Difference
from foreword.evaluation.statistics.intervals import Interval, widened
from foreword.messages import Message, restored
from foreword.methods.base import make
from foreword.runs.output_folder import in_its_folder
from foreword.runs.prepare.prepare import Prepared, prepare, say_nothing, with_rows
from foreword.runs.series import Member, finished, is_finished, member
from foreword.runs.train.dev_score import DevScore, metric_names
from foreword.runs.train.finish import finish
from foreword.runs.train.interrupt import Interrupts, interruptible
from foreword.runs.train.outcome import Outcome
from foreword.runs.train.rates_side_by_side import Run, learn_side_by_side
from foreword.runs.train.run_record import record_run, to_resume
from foreword.runs.train.train import learn, rates_of
from foreword.runs.train.trials import TRIALS
from foreword.settings.schema import SCRATCH, ProgressCall, TrainRequest
from foreword.training.loop import Score
from foreword.training.side_by_side import side_by_side

NAME = "folds.json"
_NOTE = Message(
    "The intervals are those of the rows for the models of these folds, widened because folds share training rows; "
    "that other training rows give another foreword is in them only in part."
)


@dataclass(frozen=True)
class FoldsResult:
    """What a cross-validation found.

    Args:
        folder: with ``report.json|md|html``, a folder for each fold, and ``all`` with the training on all rows.
        file: the foreword to use, from all rows.
        metric: what decides.
        folds: for each fold ``rows``, ``learning_rate``, ``outcome``, ``prompt`` and ``foreword`` (the metric's value).
        systems: figures of ``prompt`` (none with a trained head) and ``foreword`` over all rows.
        difference: foreword minus prompt, paired over all rows.
        text: for people.

    >>> from foreword.api import FoldsResult
    >>> FoldsResult("folded", "folded/model.foreword", "accuracy", folds=[], systems={}, difference=None).metric
    'accuracy'
    """

    folder: str
    file: str
    metric: str
    folds: list[dict[str, Any]]
    systems: dict[str, dict[str, Any]]
    difference: dict[str, Any] | None
    alarms: list[str] = field(default_factory=list)
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        del values["text"]
        return values

    def render(self) -> str:
        """For people."""
        return self.text


@in_its_folder
def cross_validate(request: TrainRequest, folds: int) -> FoldsResult:
    """Train and test on every fold, then train on all rows; given again with ``resume``, it goes on.

    With one learning rate the folds train side by side; with several, each fold finds its own.

    Args:
        request: as for :func:`foreword.train`; no test rows are kept, ``output_dir`` becomes the folder of all.
        folds: K.

    Raises:
        SettingsError: something that does not go with folds, or too few rows for so many.
        and whatever :func:`foreword.train` raises.

    >>> from foreword.api import cross_validate
    >>> from foreword.settings.schema import TrainRequest, TrainSettings
    >>> quick = TrainSettings(learning_rate=0.02, max_steps=1)
    >>> result = cross_validate(TrainRequest("reviews.csv", "base", "folded", settings=quick), 2)
    >>> len(result.folds), result.file
    (2, 'folded/all/model.foreword')
    """
    _check(request)
    options, folder = request.task_options, Path(request.output_dir)
    whole = replace(request, task_options=replace(options, test_fraction=0.0))
    prepared = prepare(whole)
    parts = k_folds(prepared.tables["train"], folds, seed=options.split_seed, group=options.group)
    record_run(folder, replace(prepared, request=request), name=NAME, more={"folds": folds})
    with interruptible() as interrupts:
        try:
            _train_folds(prepared, parts, folder, interrupts)
            members = [finished(_place(folder, number)) for number in range(folds)]
            # The rate that most folds chose, the earlier in their order where that is a tie.
            found = [one.report["training"].get("learning_rate") for one in members if one.learned]
            rate = statistics.mode(found) if found else rates_of(prepared)[0]
            last = replace(
                whole, base=prepared.base, output_dir=folder / "all",
                settings=replace(request.settings, learning_rate=rate, sweep=()),
            )  # fmt: skip
            every = member(last, "all rows", request.progress or say_nothing)
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(
                "interrupted; everything that was finished is kept",
                where=str(folder),
                hint=Message("go on with `foreword train --resume {folder}`", folder=folder),
            ) from None
    result = _told(prepared, members, every, folder)
    for number in range(folds):
        shutil.rmtree(_place(folder, number) / TRIALS, ignore_errors=True)
    return result


def resume_folds(folder: str | Path, progress: ProgressCall | None = None) -> FoldsResult:
    """Go on with an interrupted cross-validation.

    Raises:
        ResumeError: there is none in ``folder``, its data were in memory, or they have changed.
    """
    request, folds = to_resume(folder, "cross_validate", progress, name=NAME, more="folds")
    return cross_validate(request, int(folds))


def _check(request: TrainRequest) -> None:
    """Refuse what does not go with folds, before anything is loaded."""
    settings = request.settings
    refused = {
        "--test": (request.test is not None, "leave it out: every row is tested once"),
        "processes": (settings.processes > 1, "leave it out: the folds share one process"),
        "shard": (settings.shard, "leave it out: the folds share one process"),
        "ablate": (settings.ablate, "leave it out, or train without folds"),
    }
    for where, (given, hint) in refused.items():
        if given:
            raise SettingsError("this does not go with folds", where=where, hint=hint)
    if not make(request.method, request.method_settings).learning_rates:
        raise SettingsError("this method trains nothing", where="--method", received=request.method)
    if request.base in SCRATCH:
        raise SettingsError(
            "a base that is trained from scratch would have read the rows of every fold",
            where="--base",
            hint="make one from other text with `foreword base`, and give its folder",
        )


def _place(folder: Path, number: int) -> Path:
    return folder / f"fold-{number + 1}"


def _train_folds(prepared: Prepared, parts: Sequence[Sequence[int]], folder: Path, interrupts: Interrupts) -> None:
    """Carry out the folds that are not finished, as many side by side as is faster."""
    rows, settings = prepared.examples["train"], prepared.request.settings
    report = prepared.request.progress or say_nothing
    dev = DevScore(
        prepared.asker, [*prepared.examples["dev"], *prepared.plain.get("dev", [])], partial(report, "evaluate on dev")
    )
    prompt = Foreword(text=prepared.task.guidance)
    floor = None if prepared.task.head else dev(prompt)
    one = len(rates_of(prepared)) == 1 and prepared.method.per_row
    together = side_by_side(rows, settings, len(parts)) if one else 1
    # A kill leaves whole groups or groups of which some are finished: the others have their last checkpoints.
    for start in range(0, len(parts), together):
        numbers = range(start, min(start + together, len(parts)))
        todo = [number for number in numbers if not is_finished(_place(folder, number))]
        runs = [_run(prepared, parts, number, folder, dev) for number in todo]
        _carried_out(runs, folder, floor, prompt, interrupts, report, together > 1)
        report("folds", numbers.stop, len(parts))


def _carried_out(
    runs: Sequence[Run], folder: Path, floor: Score | None, prompt: Foreword, interrupts: Interrupts,
    report: ProgressCall, beside: bool,
) -> None:  # fmt: skip
    """Train some folds, side by side or one after another, and answer their test rows."""
    if beside and runs:
        found = learn_side_by_side(runs, folder, interrupts, report)
    else:
        found = [learn(run.prepared, run.folder, run.dev, floor, interrupts) for run in runs]
    for run, (sweep, alarms) in zip(runs, found, strict=True):
        if sweep.trial is None:
            raise NothingLearnedError(
                "no learning rate worked", where=run.folder.name, received="; ".join(alarms), hint="lower learning_rate"
            )
        outcome = Outcome.chosen(sweep, prompt, floor, alarms=tuple(alarms), began=run.began)
        finish(run.prepared, outcome, run.folder)


def _run(prepared: Prepared, parts: Sequence[Sequence[int]], number: int, folder: Path, dev: DevScore) -> Run:
    """The run of a fold, its folder claimed."""
    rest = sorted(index for other, part in enumerate(parts) if other != number for index in part)
    report, place = prepared.request.progress or say_nothing, _place(folder, number)

    def told(name: str, done: int, total: int, **fields: object) -> None:
        report(f"{place.name}: {name}", done, total, **fields)

    own = with_rows(prepared, {"train": rest, "test": parts[number]}, {"test": "train"})
    rates = rates_of(prepared)
    settings = replace(prepared.request.settings, learning_rate=rates[0] if len(rates) == 1 else None)
    own = replace(
        own, request=replace(prepared.request, output_dir=place, resume=True, progress=told, settings=settings)
    )
    record_run(place, own)
    return Run(own, place, dev)


def _told(prepared: Prepared, members: Sequence[Member], every: Member, folder: Path) -> FoldsResult:
    """Everything that the folds answered, together."""
    task, request = prepared.task, prepared.request
    answers = {"foreword": [answer for one in members for answer in one.answers]}
    if not task.head:
        # Where the prompt was saved, it is what the foreword says.
        prompts = [answer for one in members for answer in (one.answers if one.prompt is None else one.prompt)]
        answers = {"prompt": prompts, **answers}
    names = metric_names(task, request.task_options.metrics)
    systems = {name: evaluate(rows, task.kind, names, task.labels) for name, rows in answers.items()}
    for name, figure in systems["foreword"]["metrics"].items():
        systems["foreword"]["metrics"][name] = figure_of_folds(get_metric(name), figure, len(members))
    difference = compare(answers["foreword"], answers["prompt"], task.metric) if "prompt" in answers else None
    difference = None if difference is None else difference_of_folds(difference, len(members))
    lines, alarms = [_line(one) for one in members], _alarms(members)
    said = Message(
        "{k} folds: every one of {n} rows was answered without having been learned.",
        k=len(members), n=len(answers["foreword"]),
    )  # fmt: skip
    text = [render(systems, difference).rstrip(), said, _NOTE, *(f"note: {alarm}" for alarm in alarms)]
    text.append(Message("saved {file} (from all rows; the folds' figures are what to expect of it)", file=every.file))
    verdict = said if difference is None else sentence(difference)
    notes: list[str] = [_NOTE] if difference is None else [said, _NOTE]
    write_report(folder, _report(prepared, verdict, systems, difference, lines, alarms, notes))
    told = None if difference is None else difference.to_json()
    return FoldsResult(str(folder), str(every.file), task.metric, lines, systems, told, alarms, "\n".join(text))


def wider_by(folds: int) -> float:
    """By how much the interval of rows is wider for answers of models that share training rows."""
    return math.sqrt(folds / (folds - 1))


def figure_of_folds(metric: Metric, figure: dict[str, Any], folds: int) -> dict[str, Any]:
    """A system's figure with the interval of all folds' answers."""
    if figure["low"] is None:
        return figure
    interval = Interval(figure["low"], figure["high"], figure["level"], f"{figure['method']}-folds")
    ends = widened(interval, figure["value"], wider_by(folds))
    low, high = ends.low, ends.high
    if math.isfinite(metric.widest):
        low, high = max(0.0, low), min(metric.top, high)
    return {**figure, "low": low, "high": high, "method": interval.method}


def difference_of_folds(difference: Difference, folds: int) -> Difference:
    """A paired difference with the interval of all folds' answers."""
    interval = widened(difference.interval, difference.estimate, wider_by(folds))
    return replace(difference, interval=replace(interval, method=f"{interval.method}-folds"), equivalence=None)


def _line(one: Member) -> dict[str, Any]:
    prompt = one.prompt_figure()
    return {
        "rows": len(one.answers),
        "learning_rate": one.report["training"].get("learning_rate") if one.learned else None,
        "outcome": one.report["file"]["outcome"],
        "prompt": None if prompt is None else prompt["value"],
        "foreword": one.figure()["value"],
    }


def _alarms(members: Sequence[Member]) -> list[str]:
    """What the folds' reports warn of, each once, with the folds."""
    found: dict[str, list[str]] = {}
    for one in members:
        messages = one.report.get("messages", {})
        for alarm in one.report["warnings"]:
            known = restored(messages.get(alarm, alarm))
            found.setdefault(known, []).append(one.folder.name)
    every = Message("every fold")
    return [
        Message("{alarm}: {names}", alarm=alarm, names=every if len(at) == len(members) else at)
        for alarm, at in found.items()
    ]


def _report(
    prepared: Prepared, said: str, systems: dict[str, Any], difference: Difference | None,
    lines: list[dict[str, Any]], alarms: list[str], notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    metric = prepared.task.metric
    head = ["fold", "rows", "learning rate", *(["prompt"] if difference else []), "foreword"]
    cells = [
        [
            str(number), str(line["rows"]), "-" if line["learning_rate"] is None else f"{line['learning_rate']:g}",
            *([figure_text(metric, line["prompt"])] if difference else []), figure_text(metric, line["foreword"]),
        ]
        for number, line in enumerate(lines, start=1)
    ]  # fmt: skip
    return {
        "title": Message("cross-validation on {word}", word=prepared.base.id.rsplit("/", 1)[-1]),
        "verdict": said,
        "warnings": alarms,
        "systems": systems,
        "difference": None if difference is None else difference.to_json(),
        "metric": metric,
        "folds": lines,
        "tables": [
            {"title": Message("Folds: {metric}", metric=heading(metric)), "notes": notes, "head": head, "lines": cells}
        ],
    }
