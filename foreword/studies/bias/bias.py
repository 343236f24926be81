"""All probes of one subject, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base
from foreword.data.quality.unicode import cjk_share
from foreword.data.row import Row, Source, references
from foreword.errors import DataError
from foreword.evaluation.predictions import Prediction
from foreword.evaluation.report.write_report import write_report
from foreword.messages import Message, say, say_if_known
from foreword.runs.prepare.calibrate_prompt import CONTENT_FREE
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.train.result import versions
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.storage import write_atomically
from foreword.studies.bias.findings import Finding, priors
from foreword.studies.bias.probes import Probing, counterfactuals, orders, paraphrases
from foreword.studies.bias.subject import Subject, of_file, of_request
from foreword.studies.bias.terms import Axis, read_axes, shipped
from foreword.studies.prompts.successive_halving import fair_order


@dataclass(frozen=True)
class BiasResult:
    """What the probes found.

    Args:
        subject: the file's or prompt's name.
        rows: rows that were asked.
        findings: one for each change.
        priors: each label without any input, and how often it is said.
        flagged: rows that changed their answer (all of them; those of flagged findings are marked).
        notes: what could not be probed, and why.
    """

    subject: str
    rows: int
    findings: tuple[Finding, ...]
    priors: tuple[dict[str, Any], ...]
    flagged: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = [one for one in self.findings if one.flagged]
        said = [one["label"] for one in self.priors if one.get("flagged")]
        if not found and not said:
            return Message(
                "Nothing was flagged on {n} rows; what was probed, and how surely, stands below.", n=self.rows
            )
        axes = [Message(axis) for axis in dict.fromkeys(one.axis for one in found)]
        if not said:
            return Message("Flagged: answers depend on {names}.", names=axes)
        if not axes:
            return Message("Flagged: said too often or too seldom: {names}.", names=said)
        return Message(
            "Flagged: answers depend on {names}; said too often or too seldom: {others}.", names=axes, others=said
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "subject": self.subject,
            "verdict": self.verdict,
            "rows": self.rows,
            "findings": [one.to_json() for one in self.findings],
            "priors": list(self.priors),
            "changed_rows": len({(row["id"], row["probe"]) for row in self.flagged}),
            "notes": list(self.notes),
        }

    def render(self) -> str:
        """For people."""
        lines = [self.verdict, *(Message("note: {text}", text=note) for note in self.notes), ""]
        found = [(one.flagged, one.sentence(), one.note) for one in self.findings]
        found += [(bool(line.get("flagged")), _prior(line), "") for line in self.priors]
        for flagged, sentence, note in sorted(found, key=lambda one: not one[0]):
            lines.append(f"{'!' if flagged else ' '} {say(sentence)}" + (f" ({say_if_known(note)})" if note else ""))
        return "\n".join(map(say_if_known, lines))


@dataclass(frozen=True)
class BiasSettings:
    """What a probing may be told.

    Args:
        lists: a YAML file of words that belong together, beside the shipped English and Chinese ones.
        rows: rows to probe with, at most.
        tolerance: share of rows that may change their answer without being flagged.
        seed: of the rows and orders that are drawn.
    """

    lists: str | Path | None = None
    rows: int = 200
    tolerance: float = 0.05
    seed: int = 13


def bias(
    subject: str | Path | TrainRequest,
    data: object = None,
    settings: BiasSettings | None = None,
    *,
    base: str | Base | None = None,
    output_dir: str | Path | None = None,
    progress: ProgressCall | None = None,
) -> BiasResult:
    """Probe a foreword or a prompt for answers that change when they should not.

    Args:
        subject: a ``.foreword`` file, with ``data``; or a request whose prompt, base and data are meant.
        data: the rows for a file; right answers are not needed, and used where they are.
        output_dir: where ``report.json|md|html`` and ``flagged.jsonl`` go; None writes nothing.

    Raises:
        SettingsError, DataError, FileFormatError, BaseMismatchError: as for ``evaluate`` and ``train``.
    """
    settings = settings or BiasSettings()
    own = [] if settings.lists is None else read_axes(settings.lists)
    made = of_request(subject) if isinstance(subject, TrainRequest) else of_file(subject, data, base, progress)
    made = replace(made, rows=_sample(made, settings.rows, settings.seed))
    axes = [*shipped(_languages(made)), *own]
    result = probe(made, axes, tolerance=settings.tolerance, seed=settings.seed, progress=progress)
    if output_dir is not None:
        folder = Path(output_dir)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in result.flagged)
        write_atomically(folder / "flagged.jsonl", (line.encode("utf-8", "backslashreplace") for line in lines))
        write_report(folder, _report(made, result))
    return result


def _languages(subject: Subject) -> tuple[str, ...]:
    """Whose lists fit the rows: Chinese, English, or both where they are mixed."""
    share = cjk_share(str(row.fields.get(name) or "") for row in subject.rows for name in subject.fields)
    return ("zh",) if share > 0.9 else ("en",) if share < 0.1 else ("en", "zh")


def _sample(subject: Subject, most: int, seed: int) -> tuple[Row, ...]:
    golds = [(references(row.fields.get(subject.task.target)) or ("",))[0] for row in subject.rows]
    order = fair_order(golds if subject.task.labels else [""] * len(golds), seed)[:most]
    return tuple(subject.rows[index] for index in sorted(order))


def probe(
    subject: Subject, axes: Sequence[Axis], *, tolerance: float, seed: int, progress: ProgressCall | None = None
) -> BiasResult:
    """Every probe that fits the subject.

    Raises:
        DataError: no row can be asked.
    """
    report = progress or say_nothing
    answers = subject.answer(subject.rows, report=lambda done, total: report("as they are", done, total))
    known = [one for one in answers if one is not None]
    if not known:
        raise DataError("no row fits what the base can read", hint="give shorter rows")
    notes: list[str] = []
    probing = Probing(subject, answers, tolerance, seed, report)
    found = counterfactuals(probing, axes)
    named = {one.axis for one in found}
    absent = [Message(axis.name) for axis in axes if axis.name not in named]
    if absent:
        notes.append(Message("no row names anything of: {names}", names=absent))
    if len(known) < len(answers):
        notes.append(Message("{n} rows are too long and were left out", n=len(answers) - len(known)))
    ordered, why = orders(probing)
    found += ordered + paraphrases(probing)
    lines = _priors(subject, known, seed)
    flags = probing.flags.rows
    flags.sort(key=lambda row: (not row["flagged"], -abs(row["moved"] or 0.0)))
    return BiasResult(subject.name, len(known), tuple(found), tuple(lines), tuple(flags), (*notes, *why))


def _priors(subject: Subject, answers: Sequence[Prediction], seed: int) -> list[dict[str, Any]]:
    labels = subject.task.labels
    if not labels:
        return []
    rows = [
        Row(f"nothing-{i}", dict.fromkeys(subject.fields, text), Source("", i)) for i, text in enumerate(CONTENT_FREE)
    ]
    found = subject.answer(rows)
    free = {
        text: {label: math.exp(one.scores[label]) for label in labels}
        for text, one in zip(CONTENT_FREE, found, strict=True)
        if one is not None
    }
    return priors(free, answers, labels, seed) if free else []


def _prior(line: dict[str, Any]) -> Message:
    """How often a label is said, beside how often it is right and what the model says to no input at all."""
    facts = {"label": line["label"], "n": f"{100 * line['said']:.0f}%", "free": f"{100 * line['without_input']:.0f}%"}
    if "too_often" not in line:
        return Message("{label} is answered to {n} of the rows; without any input its share is {free}", **facts)
    gap = line["too_often"]
    low, high = sorted((abs(line["low"]), abs(line["high"])))
    facts |= {"right": f"{100 * (line['said'] - gap):.0f}%", "gap": f"{100 * abs(gap):.1f}"}
    facts |= {"low": f"{100 * low:.1f}", "high": f"{100 * high:.1f}"}
    if not line.get("flagged"):
        return Message(
            "{label} is answered to {n} of the rows and right for {right}, which may be chance; without any input its "
            "share is {free}", **facts,
        )  # fmt: skip
    if gap > 0:
        return Message(
            "{label} is answered too often, to {n} of the rows where it is right for {right}: {gap} points too many "
            "({low} to {high}); without any input its share is {free}", **facts,
        )  # fmt: skip
    return Message(
        "{label} is answered too seldom, to {n} of the rows where it is right for {right}: {gap} points too few "
        "({low} to {high}); without any input its share is {free}", **facts,
    )  # fmt: skip


def _report(subject: Subject, result: BiasResult) -> dict[str, Any]:
    head = ["", "what was changed", "how", "rows", "another answer", "95% interval", "largest move", "note"]
    lines = [
        [
            "flagged" if one.flagged else "",
            one.axis,
            one.change,
            one.rows,
            f"{100 * one.share:.1f}%",
            Message("{low} to {high}", low=f"{100 * one.low:.1f}", high=f"{100 * one.high:.1f}%"),
            _moved(one),
            one.note,
        ]
        for one in sorted(result.findings, key=lambda one: not one.flagged)
    ]
    rows = [
        [row["change"], row["id"], row["input"], row["output"], row["changed_input"], row["changed_output"]]
        for row in result.flagged[:50]
    ]
    more = len(result.flagged) - len(rows)
    return {
        "title": Message("Bias and sensitivity: {name}", name=subject.name),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "warnings": list(result.notes),
        "tables": [
            {
                "title": "What changes an answer",
                "notes": [
                    "Each line changes something that should not matter and asks again. A line is flagged when the "
                    "interval lies above the tolerance, or a probability moves by a point or more beyond chance."
                ],
                "head": head,
                "lines": lines,
                "own": [0, 1, 2, 5, 7],
            },
            _labels(result.priors),
            {
                "title": "Rows that changed their answer",
                "notes": [Message("{n} more are in flagged.jsonl.", n=more)] if more > 0 else [],
                "head": ["change", "id", "input", "answer", "changed input", "answer then"],
                "lines": rows,
                "own": [0],
            },
        ],
        "versions": versions(),
        **result.to_json(),
        # The page draws `rows` as a matrix; here it is a number.
        "rows": [],
        "rows_asked": result.rows,
    }


def _labels(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    judged = any("too_often" in one for one in found)
    lines = []
    for one in found:
        line = ["flagged" if one.get("flagged") else "", one["label"]]
        line += [f"{100 * one[key]:.0f}%" for key in ("without_input", "lowest", "highest", "said")]
        if "too_often" in one:
            low, high = 100 * one["low"], 100 * one["high"]
            ends = Message("{low} to {high}", low=f"{low:+.1f}", high=f"{high:+.1f}")
            line += [f"{100 * one['too_often']:+.1f}", ends]
        lines.append(line)
    notes = ["Without an input: the label's probability where a row says nothing, the mean over several ways to do so."]
    if judged:
        notes.append("Too often: how often it is said, minus how often it is right; intervals for all labels together.")
    head = ["", "label", "without input", "lowest", "highest", "said", *(["too often", "95% interval"] * judged)]
    return {"title": "Labels without an input", "notes": notes, "head": head, "lines": lines, "own": [0, 7]}


def _moved(one: Finding) -> str:
    if one.shift is None:
        return "-"
    shift = one.shift
    return f"p({shift.label}) {100 * shift.mean:+.1f} [{100 * shift.low:+.1f}, {100 * shift.high:+.1f}]"
