"""What a comparison came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from foreword.evaluation.report.figures import Shown


@dataclass(frozen=True, repr=False)
class CompareResult(Shown):
    """A finished comparison.

    Args:
        folder: where everything is.
        verdict: sentences, the decision first; ``state`` is what they say (evaluation.report.verdict_text).
        systems: name -> figures on test (see ``evaluation.summary.evaluate``), means over seeds.
        costs: name -> values, bytes, training seconds, operations, latency, tokens, price.
        comparisons: ``worth`` (trained methods against the best prompt) and ``which`` (others against the best one).
        power: what the test set could show, said beforehand.
        gate: the requirement with whether it was met; None where there was none.
        plan: what was done.
        warnings: what the user should know.
        seconds: wall time, interruptions not counted.
    """

    folder: str
    verdict: list[str]
    metric: str
    systems: dict[str, Any]
    costs: dict[str, Any]
    comparisons: dict[str, list[dict[str, Any]]]
    power: dict[str, Any]
    gate: dict[str, Any] | None
    plan: dict[str, Any]
    curve: dict[str, Any] | None = None
    label_next: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    text: str = ""
    state: str = "measured"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        del values["text"]
        return values

    def __str__(self) -> str:
        return self.text

    def render(self) -> str:
        """For people."""
        return self.text
