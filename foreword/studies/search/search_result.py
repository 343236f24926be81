"""What a search came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from foreword.evaluation.report.figures import Shown


@dataclass(frozen=True, repr=False)
class SearchResult(Shown):
    """What a search came to.

    Args:
        folder: where everything is.
        winner: the best prompt on the search rows.
        chosen: the prompt in ``settings.yaml``: the winner, unless the held rows show that it is worse than the start.
        gain: winner minus start on held rows, and the optimistic figure beside it.
        systems: name -> figures on the held rows.
        prompts: each prompt with how far it came.
        rounds: what each round changed and gave.
        ended: why the search ended.
    """

    folder: str
    winner: dict[str, Any]
    chosen: dict[str, Any]
    gain: dict[str, Any]
    verdict: str
    systems: dict[str, Any]
    prompts: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    rows: dict[str, int]
    ended: str
    evaluations: int
    seconds: float
    text: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: value for name, value in self.__dict__.items() if name != "text"}

    def render(self) -> str:
        """For people."""
        return self.text
