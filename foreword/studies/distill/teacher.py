"""The teacher: a long text in front of the base, its answers to the rows, and how likely it finds each word of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from foreword.core.inject.value import Foreword
from foreword.core.passes.memory import in_halves
from foreword.data.row import Row, references
from foreword.data.tokens.examples import Example, eval_batches
from foreword.errors import SettingsError, UnsupportedBaseError
from foreword.evaluation.predict import Asker, Report
from foreword.evaluation.predictions import Prediction
from foreword.messages import Message
from foreword.runs.prepare.prepare import Prepared
from foreword.studies.distill.settings import DistillSettings
from foreword.studies.prompts.prompt_scorer import standing
from foreword.studies.prompts.variant import examples_text
from foreword.training.heads.base import Asked, Soft
from foreword.training.soft_targets import Taught


@dataclass(frozen=True)
class Teacher:
    """A text in front of the base.

    Args:
        asker: the task on the base.
        value: the text's keys and values, computed once.
        ids: its N tokens.
        shown: ids of training rows that are part of it.
    """

    asker: Asker
    value: Foreword
    ids: tuple[int, ...]
    shown: frozenset[str] = frozenset()

    @classmethod
    def of(cls, prepared: Prepared, settings: DistillSettings) -> Teacher:
        """The teacher that the settings ask for.

        Raises:
            SettingsError: its file cannot be read or is empty, too few rows for its examples, no room behind it,
                or no fewer virtual tokens than it has.
            UnsupportedBaseError: in this base a text in front is more than its keys and values.
        """
        rows = _shown(prepared, settings.shots)
        text = _text(prepared, settings, rows)
        value = standing(prepared.asker, text)
        if not value.sites:
            raise UnsupportedBaseError(
                "a long text is distilled into keys and values, which this base does not have for it",
                expected="a decoder without recurrent layers",
                received=prepared.base.architecture,
            )
        ids = prepared.asker.lead(Foreword(text=text))
        _refuse_long(prepared, ids)
        if settings.num_virtual_tokens >= len(ids):
            raise SettingsError(
                "the student is no shorter than the teacher",
                where="num_virtual_tokens",
                expected=Message("less than {n}", n=len(ids)),
                received=settings.num_virtual_tokens,
            )
        return cls(prepared.asker, value, ids, frozenset(row.id for row in rows))

    def answers(self, rows: Sequence[Example], report: Report) -> list[Prediction]:
        """What it says to each row."""
        return self.asker.answer(self.value, rows, report)

    def taught(self, rows: Sequence[Example], k: int, report: Report) -> Taught:
        """What it finds likely at each place of the rows' answers, at most ``k`` words a place."""
        head = self.asker.objective(self.value)
        asked = Asked(self.asker.model, self.value, self.asker.task, _writes_nothing)
        found: dict[str, Soft] = {}
        for batch in eval_batches(rows, self.asker.batch_size):
            chosen = [rows[i] for i in batch]
            soft = in_halves(partial(head.taught, asked, k=k), chosen, self.asker.model.device)
            found |= {row.id: one for row, one in zip(chosen, soft, strict=True)}
            report(len(found), len(rows))
        return Taught(found)


def _writes_nothing(inputs: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
    raise AssertionError("what a teacher finds likely is read, not written")


def _shown(prepared: Prepared, shots: int) -> list[Row]:
    """Training rows drawn evenly over the labels."""
    if not shots:
        return []
    table, task = prepared.tables["train"], prepared.task
    if len(table) < 2 * shots:
        raise SettingsError(
            "too few training rows to take the examples from",
            where="--shots",
            expected=Message("{n} rows or more", n=2 * shots),
            received=len(table),
        )
    drawn = random.Random(prepared.request.settings.seed)
    groups: dict[str, list[Row]] = {}
    for row in drawn.sample(list(table.rows), len(table)):
        label = next(iter(references(row.fields.get(task.target))), "") if task.labels else ""
        groups.setdefault(label, []).append(row)
    chosen = [row for turn in _turns([groups[name] for name in sorted(groups)]) for row in turn][:shots]
    return drawn.sample(chosen, len(chosen))


def _turns(groups: Sequence[Sequence[Row]]) -> Iterator[list[Row]]:
    """The first of each group, the second of each, and so on."""
    for place in range(max(map(len, groups), default=0)):
        yield [group[place] for group in groups if place < len(group)]


def _text(prepared: Prepared, settings: DistillSettings, rows: Sequence[Row]) -> str:
    """What stands in front of every row."""
    if rows:
        return prepared.task.guidance + examples_text(replace(prepared.task, guidance=""), rows)
    text = read_text(settings.prompt_file or settings.document or "")
    if settings.document is None:
        return text
    return text.rstrip() + "\n\n" + prepared.task.guidance


def read_text(path: str) -> str:
    """A text file in UTF-8. Raises SettingsError where it cannot be read or is empty."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "the teacher's text cannot be read", where=path, expected="a text file in UTF-8", received=error
        ) from error
    if not text.strip():
        raise SettingsError("the teacher's text is empty", where=path)
    return text


def _refuse_long(prepared: Prepared, ids: Sequence[int]) -> None:
    """The base reads the teacher, a row and its answer at once. Raises SettingsError."""
    rows = [row for some in prepared.examples.values() for row in some]
    longest = max(len(row.input_ids) + len(row.target_ids) for row in rows)
    if prepared.task.kind == "generation":
        longest += prepared.task.decoding.max_new_tokens
    context = prepared.base.context
    if context is not None and len(ids) + longest > context:
        raise SettingsError(
            "the teacher and the longest row do not fit what the base reads",
            where="--document" if len(ids) > context // 2 else "the rows",
            expected=Message("{n} tokens", n=context),
            received=Message("{n} of the teacher, {m} of a row with its answer", n=len(ids), m=longest),
            hint="shorten the teacher's text, or distil it in parts",
        )
