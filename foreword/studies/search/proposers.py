"""The ways to make new variants that fit a task on a base."""

from __future__ import annotations

from dataclasses import dataclass

from foreword.core.inject.sites import find_sites
from foreword.errors import SettingsError
from foreword.studies.prompts.prompt_scorer import PromptScorer
from foreword.studies.prompts.rule_variants import Rules
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.few_shot import FewShotProposer
from foreword.studies.search.held_out import Pool
from foreword.studies.search.hotflip import Swaps
from foreword.studies.search.label_words import Words
from foreword.studies.search.phrase_edits import Edits
from foreword.studies.search.reflective import Reflect, Reflective, library
from foreword.studies.search.rounds import Proposer, State
from foreword.studies.search.settings import OPERATORS, SearchSettings
from foreword.studies.search.written_instructions import Model


@dataclass(frozen=True)
class Calibrate:
    """The champion, and the next best, with what the model says to no input taken off (or put back)."""

    name: str = "calibrate"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        return [
            one.made(self.name, "calibrated" if not one.calibrate else "not calibrated", calibrate=not one.calibrate)
            for one in state.beam[:wanted]
        ]


def ready(settings: SearchSettings, reflect: Reflect | None) -> None:
    """Refuse, before anything is loaded, what cannot be proposed.

    Raises:
        SettingsError: GEPA was asked for without anybody who reflects, or is not installed.
    """
    if "gepa" in settings.operators and reflect is None:
        raise SettingsError(
            "gepa needs a callable that reflects", where="operators", hint="in Python: search(..., reflect=callable)"
        )
    if reflect is not None and "gepa" in (settings.operators or OPERATORS):
        library()


def proposers(
    judge: PromptScorer, pool: Pool, settings: SearchSettings, reflect: Reflect | None = None
) -> list[Proposer]:
    """Those that were asked for, or all, as far as they fit: label words need labels, gradients a soft prompt. Raises
    what :func:`ready` does."""
    ready(settings, reflect)
    task, sites = judge.task, find_sites(judge.prepared.base.model)
    words = task.kind == "classification"
    made: dict[str, Proposer | None] = {
        "rules": Rules(task),
        "propose": Model(judge, pool.shown) if pool.shown and sites.kind != "encoder" else None,
        "edit": Edits(),
        "swap": Swaps(judge, pool.shown) if pool.shown and not sites.recurrent else None,
        "shots": FewShotProposer(task, pool.shown, settings.shots) if settings.shots and pool.shown else None,
        "words": Words(judge, pool.shown) if words and sites.kind == "decoder" and pool.shown else None,
        "calibrate": Calibrate() if words else None,
        "gepa": None if reflect is None else Reflective(judge, pool.search, reflect),
    }
    return [one for name in settings.operators or OPERATORS if (one := made[name]) is not None]
