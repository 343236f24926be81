"""Instructions that evolve by reflection: GEPA (Agrawal et al. 2025), with any text-to-text callable as the one who
reflects. An extra: ``pip install foreword[gepa]``.

GEPA shows the reflecting model what the prompt got right and wrong, takes the instruction that it writes, and keeps a
Pareto front over rows. Here it sees search rows alone, and what it finds enters the race like any other proposal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foreword.errors import SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.predictions import Prediction
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.successive_halving import BudgetSpentError, UnfitError
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.rounds import State

Reflect = Callable[[str], str]
_PART = "guidance"


@dataclass(frozen=True)
class Reflective:
    """GEPA's candidates of one run from the champion's instruction.

    Args:
        rows: indices of the search rows.
        reflect: text -> text, such as a larger model behind an API of the user's choice.
        calls: answers that one run may ask for.
    """

    judge: PromptScorer
    rows: tuple[int, ...]
    reflect: Reflect
    calls: int = 300
    name: str = "gepa"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        gepa = library()
        adapter = _Adapter(self.judge, state.best, gepa.EvaluationBatch)
        digest = hashlib.sha256(state.dice(self.name).encode()).digest()
        try:
            found = gepa.optimize(
                seed_candidate={_PART: state.best.guidance},
                trainset=list(self.rows),
                valset=list(self.rows),
                adapter=adapter,
                reflection_lm=self._asked,
                max_metric_calls=self.calls,
                stop_callbacks=[lambda progress: not self.judge.clock.allows()],
                logger=_Silent(),
                seed=int.from_bytes(digest[:4], "big"),
            )
        except BudgetSpentError:
            return []
        ranked = sorted(zip(found.val_aggregate_scores, found.candidates, strict=True), key=lambda one: -one[0])
        texts = [one[_PART] for _, one in ranked if one[_PART].strip() != state.best.guidance.strip()]
        rest = state.best.guidance[len(state.best.guidance.rstrip()) :] or "\n\n"
        made = [state.best.made(self.name, "written by reflection", guidance=text.rstrip() + rest) for text in texts]
        return made[:wanted]

    def _asked(self, prompt: str | Sequence[Mapping[str, Any]]) -> str:
        """GEPA asks with a text or with messages."""
        return self.reflect(prompt if isinstance(prompt, str) else "\n\n".join(str(one["content"]) for one in prompt))


@dataclass
class _Adapter:
    """What GEPA asks of a system: scores a row, and what is to be learned from them."""

    judge: PromptScorer
    best: Variant
    batch: Callable[..., Any]
    # None lets GEPA write the request to the reflecting model.
    propose_new_texts: None = None

    def evaluate(self, batch: Sequence[int], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        variant = replace(self.best, guidance=candidate[_PART], name="gepa")
        try:
            found = self.judge.answer(variant, batch)
        except UnfitError as problem:
            traces = [{"Feedback": str(problem)} for _ in batch]
            return self.batch(outputs=[""] * len(batch), scores=[0.0] * len(batch), trajectories=traces)
        return self.batch(
            outputs=[one.output for one in found],
            scores=row_scores(self.judge.task.metric, found),
            trajectories=[_trace(one) for one in found] if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, str]]]:
        return {part: list(eval_batch.trajectories) for part in components_to_update}


class _Silent:
    """GEPA's own messages are not ours to print."""

    def log(self, message: str) -> None:
        """Nothing."""


def row_scores(metric: str, found: Sequence[Prediction]) -> list[float]:
    """A figure for each row, 0 to 1: the metric's own, or ROUGE-L where the metric is one of whole corpora."""
    chosen = get_metric(metric)
    if chosen.form == "corpus":
        chosen = get_metric("accuracy" if chosen.kind == "classification" else "rouge_l")
    figures = chosen.per_row([one.output for one in found], [one.accepted for one in found])
    return [] if figures is None else [float(value) for value in figures]


def _trace(one: Prediction) -> dict[str, str]:
    right = one.output in (one.references or (one.gold,))
    said = "The answer is right." if right else f"The right answer is {one.gold!r}."
    return {"Inputs": one.input, "Generated Outputs": one.output, "Feedback": said}


def library() -> Any:
    """The package. Raises SettingsError where it is not installed."""
    try:
        import gepa
    except ImportError as error:
        raise SettingsError(
            "GEPA is not installed", where="operators", received="gepa", hint="pip install 'foreword[gepa]'"
        ) from error
    return gepa
