"""Which start helps which task: every task from its own prompt, from every other task's foreword, and all together.

A cell is the gain over the task's own default start on its test rows, paired by row. All intervals hold at once (each
at 1 - 0.05 / number of cells), so that the one that stands out may be talked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.errors import SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.report.summary import compare, figure_text, heading
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.differences import Difference
from foreword.messages import Message
from foreword.runs.prepare.base import base_for, built, copy_base
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.prepare.ready_data import ready_data
from foreword.runs.prepare.start import refuse_start
from foreword.runs.series import Member, finished, is_finished, member, needs_test, refuse_other
from foreword.settings.schema import SCRATCH, ProgressCall, TrainRequest
from foreword.studies.transfer.joint_training import together
from foreword.training.from_scratch.build_base import Text

TOGETHER, DEFAULT = "together", "default"


@dataclass(frozen=True)
class Cell:
    """One start for one task.

    Args:
        start: another task's name, or ``together``.
        task: the task that was trained from it.
        figure: of the task's metric on test (value, low, high); None where there was nothing to start from.
        gain: this start minus the default one on the same rows, with a simultaneous interval.
        decision: ``helps``, ``hurts``, ``open``, or ``nothing learned`` at the start.
    """

    start: str
    task: str
    figure: dict[str, Any] | None
    gain: dict[str, Any] | None
    decision: str


@dataclass(frozen=True)
class TransferResult:
    """The matrix.

    Args:
        tasks: name -> its metric and the figure of its default start on test.
        cells: every start for every task.
        folder: with ``report.html|md|json`` and a folder of runs for each task.
    """

    tasks: dict[str, dict[str, Any]]
    cells: list[Cell]
    folder: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def verdict(self) -> str:
        """In a sentence or two."""
        pairs = {
            decision: [
                Message("{start} for {task}", start=c.start, task=c.task) for c in self.cells if c.decision == decision
            ]
            for decision in ("helps", "hurts")
        }
        helps = Message("Another start helps, in these trainings: {names}.", names=pairs["helps"])
        hurts = Message("Another start hurts, in these trainings: {names}.", names=pairs["hurts"])
        if pairs["helps"] and pairs["hurts"]:
            return Message("{first} {second}", first=helps, second=hurts)
        if pairs["helps"] or pairs["hurts"]:
            return helps if pairs["helps"] else hurts
        return Message("No start can be told from the default one on any task.")

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and lines: a line for each start, a column for each task."""
        head = ["start", *(f"{name}: {heading(task['metric'])}" for name, task in self.tasks.items())]
        lines = [["default", *(_figure(task["metric"], task["figure"]) for task in self.tasks.values())]]
        starts = list(dict.fromkeys(cell.start for cell in self.cells))
        at = {(cell.start, cell.task): cell for cell in self.cells}
        for start in starts:
            lines.append([start, *(_cell(self.tasks[name]["metric"], at.get((start, name))) for name in self.tasks)])
        return head, lines

    def render(self) -> str:
        """For people."""
        head, lines = self.table()
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
        rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in (head, *lines)]
        return "\n".join([*rows, self.verdict(), f"saved {self.folder}/report.html"])


def _figure(metric: str, figure: Mapping[str, Any]) -> str:
    text = figure_text(metric, figure["value"])
    if figure["low"] is None:
        return text
    return f"{text} [{figure_text(metric, figure['low'])}, {figure_text(metric, figure['high'])}]"


def _cell(metric: str, cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.gain is None:
        return cell.decision
    low, high = (figure_text(metric, cell.gain["interval"][end], True) for end in ("low", "high"))
    return f"{figure_text(metric, cell.gain['estimate'], True)} [{low}, {high}] {cell.decision}"


def transfer(
    requests: Mapping[str, TrainRequest],
    output_dir: str | Path,
    *,
    joint: bool = False,
    progress: ProgressCall | None = None,
) -> TransferResult:
    """Train every task from its default start and from every other task's foreword; given again, it goes on.

    Args:
        requests: task name -> request; their ``output_dir`` is not used. All have one base and one method.
        output_dir: the folder of all runs.
        joint: train all tasks together as well, one foreword each plus a shared part.

    Raises:
        SettingsError: fewer than two tasks, different bases or methods, or a task without test rows.
        and whatever :func:`foreword.train` raises.
    """
    report, folder = progress or say_nothing, Path(output_dir)
    _check(requests)
    texts = {}
    for name, request in requests.items():
        ready = ready_data(request)
        needs_test(ready.tables)
        texts[name] = Text(ready.task, ready.tables["train"], ready.tables["dev"])
    base = _base(requests, texts, folder, report)
    placed = {name: replace(request, base=base) for name, request in requests.items()}
    total, done = len(placed) ** 2, 0
    default: dict[str, Member] = {}
    for name, request in placed.items():
        report("transfer", done, total, task=name)
        default[name] = member(replace(request, output_dir=folder / name / DEFAULT), f"{name} from {DEFAULT}", report)
        done += 1
    found: dict[tuple[str, str], Member | None] = {}
    for start in placed:
        for name in (other for other in placed if other != start):
            report("transfer", done, total, task=name)
            found[start, name] = _from(placed[name], name, start, default[start], folder, report)
            done += 1
    report("transfer", total, total)
    if joint:
        found |= {(TOGETHER, name): one for name, one in _together(placed, folder, report).items()}
    result = _result({name: text.task.metric for name, text in texts.items()}, default, found, folder)
    head, lines = result.table()
    notes = ["Gains over the default start on the same test rows; all intervals hold together at 95%."]
    tables_ = [{"title": "Which start helps which task", "notes": notes, "head": head, "lines": lines}]
    write_report(
        folder, {"title": "Transfer", "verdict": result.verdict(), "tables": tables_, "result": result.to_json()}
    )
    return result


def _check(requests: Mapping[str, TrainRequest]) -> None:
    if len(requests) < 2:
        raise SettingsError("transfer takes two tasks or more", received=len(requests))
    refuse_start(next(iter(requests.values())).method)
    for name, request in requests.items():
        if name in (TOGETHER, DEFAULT):
            raise SettingsError("a task cannot have this name", received=name, hint="rename its file")
        first = next(iter(requests.values()))
        for what in ("base", "method"):
            if getattr(request, what) != getattr(first, what):
                raise SettingsError(
                    f"all tasks have one {what}",
                    where=name,
                    expected=getattr(first, what),
                    received=getattr(request, what),
                )


def _base(requests: Mapping[str, TrainRequest], texts: Mapping[str, Text], folder: Path, report: ProgressCall) -> Base:
    """One base for all; one from scratch is trained on the rows of all tasks."""
    first = next(iter(requests.values()))
    if isinstance(first.base, Base):
        return first.base
    tasks = [text.task for text in texts.values()]
    if first.base in SCRATCH:
        kept = (folder / "base").resolve()
        if not kept.is_dir():
            copy_base(built(first.base, list(texts.values()), first.base_settings, report), kept)
        first = replace(first, base=str(kept))
    return base_for(first, next((task for task in tasks if task.masked), tasks[0]), {}, True, report)


def _from(
    request: TrainRequest, name: str, start: str, source: Member, folder: Path, report: ProgressCall
) -> Member | None:
    """The task from another's foreword; None where that task kept its prompt, which is nothing to start from."""
    if not source.learned:
        return None
    one = replace(request, output_dir=folder / name / f"from-{start}", init_from=str(source.file))
    return member(one, f"{name} from {start}", report)


def _together(requests: Mapping[str, TrainRequest], folder: Path, report: ProgressCall) -> dict[str, Member]:
    placed = {name: replace(request, output_dir=folder / name / TOGETHER) for name, request in requests.items()}
    folders = {name: Path(request.output_dir) for name, request in placed.items()}
    if all(map(is_finished, folders.values())):
        for name, path in folders.items():
            refuse_other(path, placed[name])
    else:
        resumed = {
            name: replace(request, resume=(folders[name] / "run.json").exists()) for name, request in placed.items()
        }
        together(resumed, folder / TOGETHER, report)
    return {name: finished(path) for name, path in folders.items()}


def _result(
    metrics: Mapping[str, str],
    default: Mapping[str, Member],
    found: Mapping[tuple[str, str], Member | None],
    folder: Path,
) -> TransferResult:
    level = 1 - 0.05 / max(1, sum(one is not None for one in found.values()))
    cells = []
    for (start, name), one in found.items():
        if one is None:
            cells.append(Cell(start, name, None, None, "nothing learned"))
            continue
        gain = compare(one.answers, default[name].answers, metrics[name], level=level)
        cells.append(Cell(start, name, one.figure(), gain.to_json(), _decision(gain)))
    tasks = {name: {"metric": metrics[name], "figure": one.figure()} for name, one in default.items()}
    return TransferResult(tasks, cells, str(folder))


def _decision(gain: Difference) -> str:
    if not gain.decided:
        return "open"
    return "helps" if (gain.estimate > 0) == (get_metric(gain.metric).better == "higher") else "hurts"
