"""The untrained model: with the user's prompt, with the best of several, with examples in front. Dev chooses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreword.evaluation.predictions import Prediction
from foreword.evaluation.thresholds import at_thresholds, choose_thresholds
from foreword.runs.prepare.prepare import Prepared
from foreword.runs.train.dev_score import score_of
from foreword.studies.compare.settings import CompareOptions
from foreword.studies.prompts.prompt_file import read_variants
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.rule_variants import wordings
from foreword.studies.prompts.successive_halving import UnfitError
from foreword.studies.prompts.variant import Variant, distinct, named
from foreword.studies.search.few_shot import FewShotProposer
from foreword.studies.search.rounds import State

# Prompts that are made where the user names none.
_WORDINGS = 4


def variants(prepared: Prepared, options: CompareOptions) -> dict[str, list[Variant]]:
    """System -> the prompts that it chooses from."""
    task = prepared.task
    start = Variant.of(task, "prompt")
    if options.prompts is not None:
        others = read_variants(options.prompts, task, prepared.tables["train"])
    else:
        others = [one for one, _ in zip(_spread(list(wordings(start, task))), range(_WORDINGS), strict=False)]
    several = distinct([start, *named(others, [start.name], "wording-")], set())
    few = []
    if options.shots:
        state = State(1, start, (start,), (), prepared.request.settings.seed)
        made = FewShotProposer(task, prepared.tables["train"].rows, options.shots)(state, 6)
        # The largest number of examples that is allowed, in three selections, and half of it.
        few = sorted(made, key=lambda one: -len(one.examples))[:3]
    return {"prompt": [start], "best_prompt": several, "few_shot": named(few, [start.name], "examples-")}


def _spread(made: list[Variant]) -> Iterator[Variant]:
    """One of each kind of change before the second of any."""
    kinds: dict[str, list[Variant]] = {}
    for one in made:
        kinds.setdefault(one.change.split(" ")[0], []).append(one)
    for place in range(len(made)):
        yield from (found[place] for found in kinds.values() if place < len(found))


@dataclass
class Prompts:
    """The prompts of a comparison, asked and kept on disk."""

    prepared: Prepared
    folder: Path
    dev: int
    judge: PromptScorer

    @classmethod
    def of(cls, prepared: Prepared, folder: Path) -> Prompts:
        """On the rows of dev and test."""
        tables = prepared.tables
        dev = tables["dev"].rows
        rows = (*dev, *(tables["test"].rows if "test" in tables else ()))
        shown = {row.id: row for row in tables["train"].rows}
        return cls(prepared, folder, len(dev), PromptScorer(prepared, rows, shown, folder / "answers"))

    def best(self, choices: list[Variant]) -> dict[str, Any] | None:
        """Answers of the variant that is best on dev: predictions, dev score, what was tried; None where none fits."""
        metric = self.prepared.task.metric
        tried: list[tuple[float, float, Variant, list[Prediction]]] = []
        notes = []
        for one in choices:
            try:
                found = self.judge.answer(one, range(self.dev))
            except UnfitError as problem:
                notes.append(f"{one.name}: {problem}")
                continue
            score = score_of(metric, found)
            tried.append((score.metric, -score.loss if score.loss == score.loss else 0.0, one, found))
        if not tried:
            return None
        best = max(tried, key=lambda one: one[:2])
        chosen = best[2]
        predictions = {"dev": best[3]}
        if "test" in self.prepared.tables:
            predictions["test"] = self.judge.answer(chosen, range(self.dev, len(self.judge.rows)))
        if self.prepared.task.kind == "multilabel":
            limits = choose_thresholds(best[3])
            predictions = {split: at_thresholds(rows, limits) for split, rows in predictions.items()}
        task = chosen.asked(self.prepared.task, self.judge.shown)
        return {
            "predictions": predictions,
            "dev": best[0],
            "values": 0,
            "prompt_tokens": self.judge.tokens(chosen),
            "row_tokens": self.judge.row_tokens(chosen),
            "chosen": {"variant": chosen.to_json(), "text": task.guidance, "template": task.template},
            "tried": [{"name": one.name, "change": one.change, "dev": score} for score, _, one, _ in tried],
            "notes": notes,
        }
