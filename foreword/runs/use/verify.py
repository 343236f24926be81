"""Replay the golden rows that a file carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from foreword.artifact.manifest import MAX_GOLDEN, Golden
from foreword.core.base.device import number_format
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.row import Row, Source
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.errors import DataError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction
from foreword.runs.use.use import open_foreword
from foreword.settings.schema import ProgressCall

# log-probabilities of a reloaded foreword on the same machine differ by the order of a batch's additions only.
_TOLERANCE = 1e-3
# In another number format the base itself is rounded otherwise: bfloat16 keeps three digits of a logit of some tens. In
# a narrow one so are its sums, which other kernels, threads or machines make in another order.
_ROUNDED = 0.25


@dataclass(frozen=True)
class VerifyReport:
    """What replaying the golden rows showed: ``rows`` has, for each, expected and received output, the largest change
    of a score and whether it is equal up to ``tolerance``; ``note`` says where the base is in another number format
    than the one that the file was written with.

    >>> from foreword.api import verify
    >>> report = verify("model.foreword")
    >>> report.ok, report.rows[0]["equal"]
    (True, True)
    """

    ok: bool
    rows: list[dict[str, Any]]
    note: str = ""
    tolerance: float = _TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        wrong = [row for row in self.rows if not row["equal"]]
        note = f"\nnote: {self.note}" if self.note else ""
        if not wrong:
            return f"verified: {len(self.rows)} golden rows give the answers that were saved{note}"
        lines = [f"FAILED: {len(wrong)} of {len(self.rows)} golden rows give other answers"]
        lines += [
            f"  row {row['row']}: expected {row['expected']!r}, received {row['received']!r} ({row['why']})"
            for row in wrong
        ]
        return "\n".join(lines) + note


def verify(file: str | Path, base: str | Base | None = None, progress: ProgressCall | None = None) -> VerifyReport:
    """Ask the golden rows again: input ids, outputs and scores must be those in the file (scores within 1e-3).

    Raises:
        FileFormatError, BaseMismatchError: as :func:`open_foreword`.
        DataError: the file has no golden rows.

    >>> from foreword.api import verify
    >>> verify("model.foreword").ok
    True
    """
    opened = open_foreword(file, base, progress)
    golden = opened.manifest.golden
    if not golden:
        raise DataError("the file has no golden rows to replay", where=str(file))
    rows = tuple(Row(str(i), g.input, Source(str(file), i + 1)) for i, g in enumerate(golden))
    examples = opened.encoder.encode(rows, labelled=False)
    answers = opened.asker.answer(opened.value, examples)
    written, here = opened.manifest.dtype, number_format(opened.base.dtype)
    tolerance = _TOLERANCE if written in (None, here) and here == "float32" else _ROUNDED
    out = [
        _replayed(index, wanted, list(example.input_ids), answer, opened.task.labels, tolerance)
        for index, (wanted, example, answer) in enumerate(zip(golden, examples, answers, strict=True))
    ]
    note = "" if written in (None, here) else _other_format(str(written), here, out)
    return VerifyReport(all(row["equal"] for row in out), out, note, tolerance)


def _replayed(
    index: int, wanted: Golden, ids: list[int], answer: Prediction, labels: Sequence[str], tolerance: float
) -> dict[str, Any]:
    """One row of a report."""
    change, why = 0.0, ""
    if wanted.scores is not None:
        changes = (abs(a - answer.scores[label]) for a, label in zip(wanted.scores, labels, strict=True))
        change = max(changes, default=0.0)
    # Labels as close as the tolerance may change places.
    rounded = wanted.scores is not None and tolerance > _TOLERANCE and change <= tolerance
    if ids != wanted.input_ids:
        why = "the tokens differ"
    elif answer.output != wanted.output and not rounded:
        why = "another answer"
    elif change > tolerance:
        why = f"a score changed by {change:.2g}"
    return {
        "row": index,
        "equal": not why,
        "why": why,
        "expected": wanted.output,
        "received": answer.output,
        "change": change,
    }


def _other_format(written: str, here: str, rows: Sequence[Mapping[str, Any]]) -> str:
    largest = max((row["change"] for row in rows), default=0.0)
    others = sum(row["expected"] != row["received"] for row in rows)
    differ = f"scores differ by up to {largest:.2g}" + (f", {others} answers are others" if others else "")
    return f"the file was written on the base in {written} and this one is in {here}: by rounding, {differ}"


def golden_rows(
    task: Task, model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]]
) -> Callable[[Foreword], list[Golden]]:
    """What answers rows with a foreword, for the file that :func:`foreword.attach` saves: :func:`verify` asks again.

    Args:
        model: the base.
        rows: the fields of rows, of which the first 16 are asked.
    """
    special = find_sites(model).kind != "decoder"
    asker = Asker(model, tokenizer, task, special)
    chosen = tuple(Row(str(i), dict(row), Source("golden", i + 1)) for i, row in enumerate(rows[:MAX_GOLDEN]))
    examples = Encoder(task, tokenizer, special).encode(chosen, labelled=False)

    def answered(value: Foreword) -> list[Golden]:
        scored = task.has_labels
        return [
            Golden(
                input=cast(Any, dict(row.fields)),
                input_ids=list(example.input_ids),
                output=answer.output,
                scores=[answer.scores[label] for label in task.labels] if scored else None,
            )
            for row, example, answer in zip(chosen, examples, asker.answer(value, examples), strict=True)
        ]

    return answered
