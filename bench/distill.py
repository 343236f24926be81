"""How much of a long prompt fits into P virtual tokens before training: attention matching, its first tokens, chance.

    python bench/distill.py DATA --base MODEL [--shots 32] [--lengths 16,32,64,128] [--rows 200] [--json]

DATA is any file of labelled rows. The teacher is the base with ``--shots`` of its rows in front; each start is asked
other rows, and the table says how many of its answers are the teacher's, and how far its distribution is from the
teacher's (Kullback-Leibler, nats a row). What training adds is ``foreword distill``'s to say.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example
from foreword.runs.prepare.prepare import Prepared, prepare, with_rows
from foreword.settings.schema import TaskOptions, TrainRequest
from foreword.studies.distill.distill import MATCHED_ROWS, divergence_of, initial
from foreword.studies.distill.settings import DistillSettings
from foreword.studies.distill.teacher import Teacher


@dataclass(frozen=True)
class Line:
    """One start: how often it says what the teacher says, and how far from it it is."""

    start: str
    tokens: int
    agreement: float
    divergence: float


class Right:
    """What the teacher says to rows, asked once; every start is held to it."""

    def __init__(self, prepared: Prepared, teacher: Teacher, rows: list[Example]) -> None:
        self.prepared, self.asker, self.rows = prepared, teacher.asker, rows
        self.taught = teacher.taught(rows, 32, _quiet)
        self.outputs = [one.output for one in teacher.answers(rows, _quiet)]

    def line(self, start: str, tokens: int, value: Foreword) -> Line:
        """One start's line."""
        divergence = divergence_of(self.prepared, value, self.taught, self.rows)
        said = [one.output for one in self.asker.answer(value, self.rows)]
        same = sum(one == other for one, other in zip(said, self.outputs, strict=True))
        return Line(start, tokens, same / len(said), divergence)


def _quiet(done: int, total: int) -> None:
    return None


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code is 0."""
    asked = _arguments(arguments)
    options = TaskOptions(template=asked.template, guidance=asked.guidance)
    prepared = prepare(TrainRequest(asked.data, asked.base, "unused", task_options=options, skip_bad=True))
    shots = DistillSettings(shots=asked.shots, num_virtual_tokens=1)
    teacher = Teacher.of(prepared, shots)
    train = [i for i, row in enumerate(prepared.tables["train"].rows) if row.id not in teacher.shown]
    prepared = with_rows(prepared, {"train": train[: 2 * MATCHED_ROWS]})
    rows = prepared.examples["test"][: asked.rows]
    right = Right(prepared, teacher, rows)
    lines = [right.line("teacher", len(teacher.ids), teacher.value)]
    for length in map(int, asked.lengths.split(",")):
        for start in ("match", "first", "random"):
            settings = DistillSettings(shots=asked.shots, num_virtual_tokens=length, start=start)
            lines.append(right.line(start, length, initial(prepared, teacher, settings)))
            if not asked.json:
                print(_shown(lines[-1]), flush=True)
    print(json.dumps([asdict(line) for line in lines]) if asked.json else _shown(lines[0]))
    return 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", help="labelled rows")
    parser.add_argument("--base", required=True)
    parser.add_argument("--template", default=None)
    parser.add_argument("--guidance", default=None)
    parser.add_argument("--shots", type=int, default=32)
    parser.add_argument("--lengths", default="16,32,64,128")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _shown(line: Line) -> str:
    said = f"{100 * line.agreement:5.1f}% as the teacher"
    return f"{line.start:<8} {line.tokens:>5} tokens  {said}  {line.divergence:.4f} nats"


if __name__ == "__main__":
    sys.exit(main())
