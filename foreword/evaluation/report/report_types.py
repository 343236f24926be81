"""What a report holds, as types: ``report.json`` is a :class:`Report`, and its JSON schema is made from it.

Every key may be absent. Keys that only one command writes (``costs`` of a comparison, ``prompts`` of a search, ...) go
with the report as they are, in :attr:`Report.more`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from foreword.errors import DataError
from foreword.evaluation.report.verdict_text import State


class Figure(TypedDict, total=False):
    """A metric of one system: ``low`` and ``high`` are the ends of its interval, ``runs`` the values of its seeds."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    rows: int
    method: str | None
    better: Literal["higher", "lower"]
    runs: list[float]


class ConstantAnswer(TypedDict, total=False):
    """The most frequent right answer, its share of the rows, and what always giving it reaches by each metric."""

    output: str
    share: float
    metrics: dict[str, float | None]


class System(TypedDict, total=False):
    """What one system reached on test; ``report`` has precision, recall and F1 a class, and the confusion matrix."""

    kind: str
    rows: int
    metrics: dict[str, Figure]
    baseline: ConstantAnswer
    constant: bool
    tokens: int
    ms: float | None
    report: dict[str, Any]
    seeds: int
    dev: float | None


class Ends(TypedDict):
    """An interval, how sure it is (0.95), and how it was made."""

    low: float | None
    high: float | None
    level: float
    method: str


class PairedDifference(TypedDict):
    """System a minus system b on the same rows; by ``equivalence``, an interval, they are judged to be equal."""

    metric: str
    a: float | None
    b: float | None
    estimate: float | None
    interval: Ends
    p_value: float | None
    test: str
    rows: int
    equivalence: NotRequired[Ends | None]


class Gate(TypedDict):
    """A requirement and whether it is met."""

    text: str
    met: bool
    said: str
    by: NotRequired[str]
    value: NotRequired[float | None]


class Row(TypedDict, total=False):
    """A row worth reading; ``why`` as in rows_to_read, ``sure`` the probability of each system's answer."""

    id: str
    input: str
    gold: str
    outputs: dict[str, str]
    sure: dict[str, float]
    why: str | None


class OwnTable(TypedDict, total=False):
    """A table of a command's own.

    ``own`` says which columns hold the program's words (true: all); ``folded`` hides the table, or with ``lines`` only
    its lines, until it is asked for. ``chart`` has ``kind`` (``steps``, ``pareto`` or ``band``), ``title``, ``metric``
    and ``points``.
    """

    title: str
    notes: list[str]
    chart: dict[str, Any] | None
    head: list[str]
    lines: list[list[Any]]
    own: bool | list[int]
    folded: bool | Literal["lines"]
    part: str


@dataclass(frozen=True)
class Report:
    """What ``report.json`` holds.

    Args:
        title, subtitle: what the report is about; the base, the method, the rows and the date.
        created: when, in UTC.
        language: which language the page opens in, ``en`` or ``zh``.
        verdict, verdict_lines: the first sentence; all sentences.
        state: what was shown (:mod:`foreword.evaluation.report.verdict_text`).
        gate: a requirement and whether it is met.
        warnings: what the user should know.
        metric: the metric that decides; the first of a system's where it is not said.
        systems: name -> figures on test.
        titles: name -> how a system is called.
        chosen_on_dev: ``prompt`` and ``trained``: the two systems that the verdict is about.
        difference: foreword minus prompt.
        base, method, task, settings, file, versions, data: what the result depends on.
        again: the command that makes these results again.
        training: ``steps`` [{step, loss}], ``evaluations`` [{step, value}], ``sweep``, ``metric``, and single figures.
        rows: rows worth reading.
        tables: tables of a command's own, after the results.
        messages: English text -> id and arguments, of sentences that the catalogues can say in other languages.
        more: keys that only one command writes.
    """

    title: str = "foreword report"
    subtitle: str | None = None
    created: str | None = None
    language: Literal["en", "zh"] = "en"
    verdict: str | None = None
    verdict_lines: list[str] = field(default_factory=list)
    state: State | None = None
    gate: Gate | None = None
    warnings: list[str] = field(default_factory=list)
    metric: str | None = None
    systems: dict[str, System] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    chosen_on_dev: dict[str, str | None] = field(default_factory=dict)
    difference: PairedDifference | None = None
    base: dict[str, Any] | str | None = None
    method: dict[str, Any] | str | None = None
    task: dict[str, Any] | str | None = None
    settings: dict[str, Any] | str | None = None
    file: dict[str, Any] | str | None = None
    versions: dict[str, Any] | str | None = None
    again: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    tables: list[OwnTable] = field(default_factory=list)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Report:
        """The report that a dictionary (or a report.json) holds; null counts as absent.

        Raises:
            DataError: a key holds something that its place has no room for.
        """
        names = {one.name for one in fields(cls)} - {"more"}
        known = {key: value for key, value in values.items() if key in names and value is not None}
        try:
            # Checked and not converted: messages among the texts stay what they are.
            _adapter().validate_python(known)
        except ValidationError as problem:
            first = problem.errors()[0]
            raise DataError(
                "this is not a report",
                where=".".join(map(str, first["loc"])),
                expected=first["msg"],
                received=str(first["input"])[:80],
            ) from None
        return cls(**known, more={key: value for key, value in values.items() if key not in names})

    def deciding(self) -> str | None:
        """The metric that decides, where there are figures."""
        names = list(dict.fromkeys(name for system in self.systems.values() for name in system.get("metrics", {})))
        wanted = self.metric or (self.difference["metric"] if self.difference else None)
        return wanted if wanted in names else names[0] if names else None

    def compared(self) -> Sequence[str]:
        """The systems that the verdict is about, the prompt first; all of them where it names none."""
        chosen = [self.chosen_on_dev.get(key) for key in ("prompt", "trained")]
        named = [name for name in chosen if name is not None and name in self.systems]
        return named or [name for name in ("prompt", "foreword") if name in self.systems] or list(self.systems)


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def report_schema() -> dict[str, Any]:
    """The JSON schema of report.json; keys that it does not name are allowed."""
    schema = _adapter().json_schema()
    del schema["properties"]["more"]
    return {**schema, "additionalProperties": True}
