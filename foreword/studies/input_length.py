"""How much of an input is enough? One run for each number of first tokens, and the least that does as well as all.

"As well" is a test of non-inferiority: the lower end of the paired one-sided 95% interval of (first k minus whole) lies
above minus the margin. The numbers are tested from the largest down and the first that fails ends it, so no correction
for their number is needed (a fixed sequence, Maurer et al. 1995).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.errors import SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.summary import compare, figure_text, heading, same_answers
from foreword.evaluation.report.write_report import write_report
from foreword.evaluation.statistics.differences import Difference
from foreword.evaluation.statistics.verdict import default_margin
from foreword.messages import Message
from foreword.runs.prepare.encode_splits import refuse_long_k, refuse_uncut
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.prepare.ready_data import ready_data
from foreword.runs.series import Member, member, needs_test, shared_base
from foreword.runs.workers.pool import Workers, run_all
from foreword.settings.schema import TrainRequest

LEVEL = 0.9
"""Two-sided, so that each end alone is a one-sided 95%."""


@dataclass(frozen=True)
class Point:
    """One number of first tokens.

    Args:
        k: None: whole inputs.
        folder: of its run.
        outcome: ``learned``, or ``text`` where nothing beat the prompt on dev.
        foreword, prompt: figures on test (value, low, high); no prompt with a trained head.
        cut: share of the test rows that k shortened.
        difference: this minus whole inputs on the same rows; None for the whole itself.
        as_good: whether the difference rules out a loss of the margin or more; never where there is nothing to lose.
    """

    k: int | None
    folder: str
    outcome: str
    foreword: dict[str, Any]
    prompt: dict[str, Any] | None
    cut: float
    difference: dict[str, Any] | None
    as_good: bool

    @property
    def name(self) -> str:
        """As on the command line."""
        return "all" if self.k is None else str(self.k)


@dataclass(frozen=True)
class SweepResult:
    """Quality against k.

    Args:
        metric: what decides.
        margin: the loss that does not matter, in the metric's unit.
        enough: the least k from which on the answer is as good as with the whole input; None: none of them.
        informative: whether whole inputs are answered better than by one label for all rows; else no k can be judged.
        points: in the order of k.
        folder: with ``report.html|md|json``.
    """

    metric: str
    margin: float
    enough: int | None
    informative: bool
    points: list[Point]
    folder: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def verdict(self) -> str:
        """In one sentence."""
        metric = Message(get_metric(self.metric).title)
        form = "{n} points {metric}" if heading(self.metric).endswith("(%)") else "{n} {metric}"
        lost = Message(form, n=figure_text(self.metric, self.margin), metric=metric)
        if not self.informative:
            return Message(
                "How many tokens are enough cannot be said: whole inputs themselves are answered no better than by one "
                "label for all rows."
            )
        if self.enough is None:
            return Message(
                "No number that was tried ({tried}) can be said to be enough: a loss of {gain} or more is not ruled "
                "out.",
                tried=[point.name for point in self.points if point.k is not None],
                gain=lost,
            )
        return Message(
            "The first {k} tokens are enough, in these trainings: from there on the answers are as good as with whole "
            "inputs (a loss of {gain} is ruled out at 95%, paired).",
            k=self.enough,
            gain=lost,
        )

    def render(self) -> str:
        """For people."""
        head, lines = self.table()
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
        rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in (head, *lines)]
        return "\n".join([*rows, self.verdict(), f"saved {self.folder}/report.html"])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and lines, a line for each k."""
        head = ["first k", heading(self.metric), "minus all", "as good", "prompt", "rows cut (%)"]
        return head, [self._line(point) for point in self.points]

    def _line(self, point: Point) -> list[str]:
        return [
            point.name,
            _figure(self.metric, point.foreword),
            _gap(self.metric, point.difference),
            "-" if point.k is None or not self.informative else "yes" if point.as_good else "no",
            "-" if point.prompt is None else _figure(self.metric, point.prompt),
            f"{100 * point.cut:.0f}",
        ]


def _figure(metric: str, figure: dict[str, Any]) -> str:
    text = figure_text(metric, figure["value"])
    if figure["low"] is None:
        return text
    return f"{text} [{figure_text(metric, figure['low'])}, {figure_text(metric, figure['high'])}]"


def _gap(metric: str, difference: dict[str, Any] | None) -> str:
    if difference is None:
        return "-"
    ends = [figure_text(metric, difference["interval"][end], True) for end in ("low", "high")]
    return f"{figure_text(metric, difference['estimate'], True)} [{ends[0]}, {ends[1]}]"


def prefixes(text: str) -> list[int | None]:
    """``"4,8,all"`` as numbers in their order, the whole input (None) last and always there.

    Raises:
        SettingsError: something else than numbers above 0 and ``all``, or no number.
    """
    found: set[int] = set()
    for part in text.split(","):
        word = part.strip().lower()
        if word == "all":
            continue
        if not word.isdigit() or int(word) < 1:
            raise _unreadable(text)
        found.add(int(word))
    if not found:
        raise _unreadable(text)
    return [*sorted(found), None]


def _unreadable(text: str) -> SettingsError:
    return SettingsError(
        "these are not numbers of tokens", where="--input-prefix", expected="such as 4,8,16,all", received=text
    )


def sweep(
    request: TrainRequest, ks: str | Sequence[int | None], margin: float | None = None, workers: Workers | None = None
) -> SweepResult:
    """Train and measure on the first k tokens for every k, on one base; given again, it goes on where it was.

    Args:
        request: of the run on whole inputs; ``output_dir`` becomes the folder of all.
        ks: numbers of tokens, also as text (``"4,8,all"``); None: whole inputs, added if it is not there.
        margin: the loss that does not matter, in the metric's unit; None: two points.
        workers: who carries out the runs; None: this process, one after another.

    Raises:
        SettingsError: a k that is longer than every input, or no test rows.
        and whatever :func:`foreword.train` raises.
    """
    progress = request.progress or say_nothing
    order = prefixes(ks if isinstance(ks, str) else ",".join(map(_name, ks)))
    ready = ready_data(request)
    task, tables = ready.task, ready.tables
    needs_test(tables)
    for k in order:
        refuse_long_k(k, task, tables["train"])
    base = shared_base(request, task, tables, progress)
    cut = {k: 0.0 if k is None else _cut(k, task, tables, base) for k in (None, *order)}
    folder = Path(request.output_dir)
    members: dict[int | None, Member] = {}
    requests = {
        k: replace(
            request,
            base=base,
            output_dir=folder / f"k-{_name(k)}",
            task_options=replace(request.task_options, first_k=k),
        )
        for k in order
    }
    if workers is not None:
        run_all(list(requests.values()), workers, progress)
    for done, (k, one) in enumerate(requests.items()):
        progress("first k", done, len(order), k=_name(k))
        members[k] = member(one, f"k={_name(k)}", progress)
    progress("first k", len(order), len(order))
    result = judged(task, members, cut, margin, folder)
    write_report(folder, _report(result))
    return result


def _cut(k: int, task: Task, tables: Mapping[str, Table], base: Base) -> float:
    """The share of the test rows that have more than k tokens in a field.

    Raises:
        SettingsError: no training row has.
    """
    special = base.kind != "decoder"
    train, test = (Encoder(task, base.tokenizer, special, k).encode(tables[name].rows) for name in ("train", "test"))
    refuse_uncut(k, train)
    return sum(example.cut for example in test) / len(test)


def _name(k: int | None) -> str:
    return "all" if k is None else str(k)


def judged(
    task: Task, members: dict[int | None, Member], cut: dict[int | None, float], margin: float | None, folder: Path
) -> SweepResult:
    """What the runs say: which k are as good as the whole, from the largest down to the first that is not."""
    metric = get_metric(task.metric)
    allowed = 2 * default_margin(metric) if margin is None else margin
    sign = 1 if metric.better == "higher" else -1
    enough, informative = None, _informative(members[None].answers, task.metric)
    holds = informative
    points = []
    for k in sorted(members, key=lambda k: float("inf") if k is None else k, reverse=True):
        found, difference = members[k], None
        good = k is None
        if k is not None:
            difference = _difference(found.answers, members[None].answers, task.metric)
            low = min(sign * difference.interval.low, sign * difference.interval.high)
            good = informative and low > -allowed
            holds = holds and good
            enough = k if holds else enough
        points.append(
            Point(
                k=k,
                folder=str(found.folder),
                outcome="learned" if found.learned else "text",
                foreword=found.figure(),
                prompt=found.prompt_figure(),
                cut=cut[k],
                difference=None if difference is None else difference.to_json(),
                as_good=good,
            )
        )
    return SweepResult(task.metric, allowed, enough, informative, points[::-1], str(folder))


def _informative(answers: list[Prediction], metric: str) -> bool:
    """Whether answers are better than the same answer to every row: where they are not, less of an input loses
    nothing, and that would look like a finding."""
    kind = get_metric(metric).kind
    if metric == "perplexity":
        return True
    if same_answers([one.output for one in answers], kind):
        return False
    if kind != "classification":
        return True
    label = Counter(one.gold for one in answers).most_common(1)[0][0]
    always = [replace(one, output=label) for one in answers]
    return compare(answers, always, metric, level=LEVEL).interval.low > 0


def _difference(a: list[Prediction], b: list[Prediction], metric: str) -> Difference:
    """On the rows that both runs kept: a row that is too long for the base as a whole may fit when it is cut."""
    both = {one.id for one in a} & {one.id for one in b}
    return compare([one for one in a if one.id in both], [one for one in b if one.id in both], metric, level=LEVEL)


def _report(result: SweepResult) -> dict[str, Any]:
    head, lines = result.table()
    whole = result.points[-1].foreword["value"]
    sign = 1 if get_metric(result.metric).better == "higher" else -1
    points = [
        {"name": point.name, **point.foreword, "beside": point.prompt and point.prompt["value"]}
        for point in result.points
    ]
    chart = {
        "title": Message("{metric} by first k tokens", metric=heading(result.metric)),
        "metric": result.metric,
        "points": points,
        "line": whole - sign * result.margin if result.informative else None,
    }
    notes = ["Dots: what was learned on so many tokens, with its 95% interval."]
    notes += ["Rings: the text prompt."] if any(point["beside"] is not None for point in points) else []
    notes += ["Broken line: the loss that does not matter, below whole inputs."] if result.informative else []
    kept = [point.name for point in result.points if point.outcome == "text"]
    notes += (
        [Message("Nothing beat the prompt on dev at k = {tried}: there the prompt itself is measured.", tried=kept)]
        if kept
        else []
    )
    notes.append("Minus all: on the same rows, with a 90% interval; each end alone is a one-sided 95%.")
    return {
        "title": "How much of an input is enough",
        "verdict": result.verdict(),
        "tables": [{"title": "First k tokens", "notes": notes, "chart": chart, "head": head, "lines": lines}],
        "result": result.to_json(),
    }
