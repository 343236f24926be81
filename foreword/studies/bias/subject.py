"""What is probed: a foreword in front of its rows, or a text prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.data.readers.read import read
from foreword.data.row import Row
from foreword.data.task.task import Task
from foreword.data.task.template import parsed
from foreword.data.tokens.examples import Example
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction
from foreword.runs.prepare.prepare import prepare
from foreword.runs.prepare.start import prefix_length
from foreword.runs.use.use import open_foreword
from foreword.settings.schema import ProgressCall, TrainRequest


@dataclass(frozen=True)
class Subject:
    """Something that answers rows.

    Args:
        name: for people.
        asker: its task on its base.
        value: what stands in front of every row.
        context: most tokens of a row with everything in front of it; None: any.
        first_k: how many tokens of a field are kept.
        rows: the rows to probe with.
    """

    name: str
    asker: Asker
    value: Foreword
    context: int | None
    first_k: int | None
    rows: tuple[Row, ...]

    @property
    def task(self) -> Task:
        """What is asked."""
        return self.asker.task

    @property
    def prompted(self) -> bool:
        """Whether the prompt is text that can be changed, and not learned values."""
        return not self.value.num_virtual_tokens and bool(self.value.text)

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the model reads."""
        return tuple(sorted(parsed(self.task.template).fields - {"row"}))

    def answer(
        self, rows: Sequence[Row], value: Foreword | None = None, report: Callable[[int, int], None] | None = None
    ) -> list[Prediction | None]:
        """The answers to rows, behind ``value`` where one is given; None for a row that is too
        long, or empty."""
        value = self.value if value is None else value
        room = None if self.context is None else self.context - prefix_length(value, self.asker)
        kept: list[int] = []
        examples: list[Example] = []
        for index, row in enumerate(rows):
            try:
                made = self.asker.encoder(self.first_k).encode([row], max_length=room, labelled=False)
            except DataError:
                continue
            if made[0].input_ids:
                examples += made
                kept.append(index)
        found = self.asker.answer(value, examples, report or (lambda done, total: None))
        out: list[Prediction | None] = [None] * len(rows)
        for index, one in zip(kept, found, strict=True):
            out[index] = one
        return out

    def rewritten(self, row: Row, write: Callable[[str], str]) -> Row:
        """The row with each field that the model reads rewritten."""
        changed = {name: write(text) for name in self.fields if isinstance(text := row.fields.get(name), str)}
        return replace(row, fields={**row.fields, **changed})


def of_file(file: str | Path, data: object, base: str | Base | None, progress: ProgressCall | None) -> Subject:
    """A ``.foreword`` file with the rows of a data file; right answers are not needed.

    Raises:
        FileFormatError, BaseMismatchError: as for ``foreword evaluate``.
        DataError: rows that cannot be read.
    """
    opened = open_foreword(file, base, progress)
    fields = sorted(parsed(opened.task.template).fields - {"row"})
    table = read(data, inputs=fields, labelled=False)
    if table.problems:
        first = table.problems[0]
        raise DataError(f"{len(table.problems)} rows cannot be read: {first.message}", where=first.where)
    first_k = opened.manifest.settings.get("first_k")
    kept = first_k if isinstance(first_k, int) else None
    return Subject(Path(file).stem, opened.asker, opened.value, opened.base.context, kept, table.rows)


def of_request(request: TrainRequest) -> Subject:
    """A prompt on a base, with the rows of dev and train; test is left alone.

    Raises:
        SettingsError: a task without words.
        DataError: the data is refused.
    """
    prepared = prepare(replace(request, method="text", method_settings={}, init_from=None))
    value = Foreword(text=prepared.task.guidance)
    if prepared.task.head:
        raise SettingsError("a head has to be trained first", hint="give its .foreword file")
    rows = (*prepared.tables["dev"].rows, *prepared.tables["train"].rows)
    first_k = request.task_options.first_k
    return Subject("your prompt", prepared.asker, value, prepared.base.context, first_k, rows)


def scores_of(one: Prediction, labels: Sequence[str]) -> Mapping[str, float]:
    """log p of each label; {} for an answer that is written."""
    return {label: one.scores[label] for label in labels if label in one.scores}
