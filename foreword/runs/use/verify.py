"""Replay the golden rows that a file carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from foreword.artifact.manifest import MAX_GOLDEN, Golden
from foreword.core.base.load import Base
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.row import Row, Source
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Encoder
from foreword.errors import DataError
from foreword.evaluation.predict import Asker
from foreword.runs.use.use import open_foreword
from foreword.settings.schema import ProgressCall

# log-probabilities of a reloaded foreword on the same machine differ by the order of a batch's additions only.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class VerifyReport:
    """What replaying the golden rows showed: ``rows`` has, for each, expected and received output and the largest
    change of a score."""

    ok: bool
    rows: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def render(self) -> str:
        """For people."""
        wrong = [row for row in self.rows if not row["equal"]]
        if not wrong:
            return f"verified: {len(self.rows)} golden rows give the answers that were saved"
        lines = [f"FAILED: {len(wrong)} of {len(self.rows)} golden rows give other answers"]
        lines += [
            f"  row {row['row']}: expected {row['expected']!r}, received {row['received']!r} ({row['why']})"
            for row in wrong
        ]
        return "\n".join(lines)


def verify(file: str | Path, base: str | Base | None = None, progress: ProgressCall | None = None) -> VerifyReport:
    """Ask the golden rows again: input ids, outputs and scores must be those in the file (scores within 1e-3).

    Raises:
        FileFormatError, BaseMismatchError: as :func:`open_foreword`.
        DataError: the file has no golden rows.
    """
    opened = open_foreword(file, base, progress)
    golden = opened.manifest.golden
    if not golden:
        raise DataError("the file has no golden rows to replay", where=str(file))
    rows = tuple(Row(str(i), g.input, Source(str(file), i + 1)) for i, g in enumerate(golden))
    examples = opened.encoder.encode(rows, labelled=False)
    answers = opened.asker.answer(opened.value, examples)
    out = []
    for index, (wanted, example, answer) in enumerate(zip(golden, examples, answers, strict=True)):
        change = 0.0
        if wanted.scores is not None:
            now = [answer.scores[label] for label in opened.task.labels]
            change = max((abs(a - b) for a, b in zip(wanted.scores, now, strict=True)), default=0.0)
        why = ""
        if list(example.input_ids) != wanted.input_ids:
            why = "the tokens differ"
        elif answer.output != wanted.output:
            why = "another answer"
        elif change > _TOLERANCE:
            why = f"a score changed by {change:.2g}"
        out.append(
            {
                "row": index,
                "equal": not why,
                "why": why,
                "expected": wanted.output,
                "received": answer.output,
                "change": change,
            }
        )
    return VerifyReport(all(row["equal"] for row in out), out)


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
        scored = task.kind == "classification"
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
