"""The model's answers to variants, each asked once and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from foreword.core.inject.initial_values import from_ids
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.row import Row
from foreword.data.task.task import Task
from foreword.data.tokens.examples import Example
from foreword.data.tokens.tokenize import label_ids
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from foreword.messages import Message
from foreword.runs.prepare.calibrate_prompt import calibrated
from foreword.runs.prepare.prepare import Prepared, say_nothing
from foreword.settings.budget import Clock
from foreword.studies.prompts.calibration import taken_off
from foreword.studies.prompts.successive_halving import BudgetSpentError, UnfitError
from foreword.studies.prompts.variant import Variant

CHUNK = 64
"""Rows between two looks at the budget and two saves."""


@dataclass
class PromptScorer:
    """Answers of variants on a pool of rows.

    Args:
        prepared: the base, the task and its data.
        rows: the pool; everybody speaks of rows by their index in it.
        shown: id -> training row that may stand in front as an example.
        folder: where answers are kept, a file for each prompt.
        clock: of the time budget.
        evaluations: answers at most; 0: any number.
        asked: answers so far, those of a search that was interrupted included.
    """

    prepared: Prepared
    rows: Sequence[Row]
    shown: Mapping[str, Row]
    folder: Path
    clock: Clock = field(default_factory=lambda: Clock(None))
    evaluations: int = 0
    asked: int = 0
    _seconds: float = 0.0
    _timed: int = 0
    _before: dict[str, dict[str, Prediction]] = field(default_factory=dict)
    _kept: dict[str, dict[str, Prediction]] = field(default_factory=dict)
    _priors: dict[str, dict[str, float]] = field(default_factory=dict)
    _ready: dict[str, tuple[Asker, Foreword, list[Example]]] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task as the user has it."""
        return self.prepared.task

    def answer(self, variant: Variant, rows: Sequence[int]) -> list[Prediction]:
        """The variant's answers to the rows of these indices, in their order.

        Raises:
            BudgetSpentError: they do not fit the budget any more; those that were given are kept.
            UnfitError: the variant cannot be asked; says why.
        """
        key = replace(variant, calibrate=False).key
        kept = self._kept.get(key)
        if kept is None:
            kept, self._before[key] = {}, self._load(key)
            self._kept[key] = kept
        missing = [index for index in rows if self.rows[index].id not in kept]
        for start in range(0, len(missing), CHUNK):
            self._ask(variant, key, missing[start : start + CHUNK])
        found = [kept[self.rows[index].id] for index in rows]
        if not variant.calibrate:
            return found
        prior = self.prior(variant)
        return [taken_off(one, prior) for one in found]

    def prior(self, variant: Variant) -> dict[str, float]:
        """log p of each label when there is no input at all (see :mod:`foreword.runs.prepare.calibrate_prompt`)."""
        key = replace(variant, calibrate=False).key
        if key not in self._priors:
            self._priors[key] = calibrated(self._prepare(replace(variant, calibrate=False))[0]).calibration
        return self._priors[key]

    def tokens(self, variant: Variant) -> int:
        """Tokens that stand in front of every row."""
        task = variant.asked(self.task, self.shown)
        return len(replace(self.prepared.asker, task=task).lead(Foreword(text=task.guidance)))

    def row_tokens(self, variant: Variant) -> float:
        """Tokens of a row with everything around it, on average over the pool."""
        asker, _, examples = self._prepare(replace(variant, calibrate=False))
        own = sum(len(example.input_ids) for example in examples) / max(1, len(examples))
        return own + len(asker.lead(Foreword(text=asker.task.guidance)))

    def _ask(self, variant: Variant, key: str, rows: Sequence[int]) -> None:
        """Ask the rows that an interrupted search has not asked; all of them count, so a resumed one ends the same."""
        before = self._before[key]
        new = [index for index in rows if self.rows[index].id not in before]
        expected = self._seconds / self._timed * len(new) if self._timed else 0.0
        too_many = self.evaluations and self.asked + len(rows) > self.evaluations
        if too_many or (new and not self.clock.allows(expected)):
            raise BudgetSpentError
        self.asked += len(rows)
        kept = self._kept[key]
        kept |= {name: before[name] for index in rows if (name := self.rows[index].id) in before}
        if not new:
            return
        asker, value, examples = self._prepare(replace(variant, calibrate=False))
        began = time.monotonic()
        report = partial(self.prepared.request.progress or say_nothing, Message("ask {name}", name=variant.name))
        found = asker.answer(value, [examples[index] for index in new], report)
        self._seconds, self._timed = self._seconds + time.monotonic() - began, self._timed + len(new)
        kept |= {one.id: one for one in found}
        write_jsonl(self._path(key), (before | kept).values())

    def _prepare(self, variant: Variant) -> tuple[Asker, Foreword, list[Example]]:
        """The variant's task on the base, what stands in front, and the pool as token ids."""
        if variant.key not in self._ready:
            self._ready.clear()  # one at a time: the keys and values of long prompts are large
            self._ready[variant.key] = self._made(variant)
        return self._ready[variant.key]

    def _made(self, variant: Variant) -> tuple[Asker, Foreword, list[Example]]:
        try:
            task = variant.asked(self.task, self.shown)
            asker = replace(self.prepared.asker, task=task)
            label_ids(task, asker.tokenizer)
            lead = asker.lead(Foreword(text=task.guidance))
            limit = self.prepared.base.context
            room = None if limit is None else limit - len(lead)
            if room is not None and room < 1:
                raise UnfitError(
                    Message("the prompt has {n} tokens, and the model reads {limit}", n=len(lead), limit=limit)
                )
            first_k = self.prepared.request.task_options.first_k
            examples = asker.encoder(first_k).encode(self.rows, max_length=room)
        except (DataError, SettingsError) as problem:
            raise UnfitError(problem.problem) from problem
        return asker, standing(asker, task.guidance), examples

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"

    def _load(self, key: str) -> dict[str, Prediction]:
        path = self._path(key)
        return {one.id: one for one in read_jsonl(path)} if path.exists() else {}


def standing(asker: Asker, text: str) -> Foreword:
    """A text to stand in front of many rows: as its keys and values where these are the same, computed once.

    In a decoder without recurrent layers a prefix of a text's keys and values *is* that text (contract 7), and a prompt
    of several hundred tokens is then read once, not once a row.
    """
    value = Foreword(text=text)
    sites, lead = find_sites(asker.model), asker.lead(value)
    if not lead or sites.kind != "decoder" or sites.recurrent or not sites.moves_positions:
        return value
    return Foreword(text=text, sites=from_ids(asker.model, lead))
