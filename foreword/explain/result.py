"""The explain card: as JSON, as tables of a report, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foreword.evaluation.blocks import short
from foreword.evaluation.summary import figure_text
from foreword.explain.ablate import Without
from foreword.explain.attention import Mass
from foreword.explain.imitate import Imitation
from foreword.explain.nearest import Near

_LONG = 40
"""Lines from which a page folds a table."""
PART = "explain"
"""The key ``part`` of the card's tables in a report."""


@dataclass(frozen=True)
class Explained:
    """What a foreword says and does; what could not be measured is empty, and ``notes`` says why.

    Args:
        name: of the file.
        rows: how many were asked.
        nearest: the nearest words of each virtual token or slot.
        without: the whole, then the foreword without each of its parts.
        attention: at each site.
        imitation: a text that answers like it.
        notes: for people.
    """

    name: str
    rows: int
    nearest: Sequence[Near] = ()
    without: Sequence[Without] = ()
    attention: Sequence[Mass] = ()
    imitation: Imitation | None = None
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        near = [{**asdict(one), "readable": one.readable} for one in self.nearest]
        without = [{**asdict(one), "matters": one.matters} for one in self.without]
        return {**asdict(self), "nearest": near, "without": without, "notes": list(self.notes)}

    def tables(self) -> list[dict[str, Any]]:
        """Tables as a report has them (:mod:`foreword.evaluation.contents`)."""
        made = [self._nearest(), self._imitation(), self._without(), self._attention()]
        notes = {"title": "What could not be explained", "notes": list(self.notes), "head": [], "lines": []}
        return [{**one, "part": PART} for one in (*made, notes) if one["lines"] or one["notes"]]

    def _nearest(self) -> dict[str, Any]:
        lines = [
            [one.name, "  ".join(repr(token) for token in one.tokens), f"{one.cosines[0]:.3f}", f"{one.chance:.3f}",
             one.distance, "yes" if one.readable else "not readable"]
            for one in self.nearest
        ]  # fmt: skip
        count = sum(one.readable for one in self.nearest)
        notes = [
            f"{count} of {len(lines)} virtual tokens are nearer to a word than chance. Where one is not, its nearest "
            "words are no reading of it. Chance: 99 of 100 random directions stay below this cosine."
        ]
        head = ["", "nearest tokens", "cosine", "chance", "distance", "readable"]
        return {"title": "Nearest words", "notes": notes if lines else [], "head": head, "lines": lines,
                "folded": len(lines) > _LONG}  # fmt: skip

    def _imitation(self) -> dict[str, Any]:
        found, notes = self.imitation, []
        if found is not None:
            notes = [
                f"{found.text.strip()!r} answers {100 * found.equal:.1f}% of {found.rows} rows as the foreword does "
                f"(95% interval {100 * found.low:.1f} to {100 * found.high:.1f}%); the task's own prompt "
                f"{100 * found.prompt_equal:.1f}%. It is the best of {found.tried} texts, chosen on other rows."
            ]
        return {"title": "A text that answers like it", "notes": notes, "head": [], "lines": []}

    def _without(self) -> dict[str, Any]:
        lines = [
            [one.part, f"{one.loss:.4f}", f"{one.more:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}",
             "-" if one.metric is None else figure_text("accuracy", one.metric)]
            for one in self.without
        ]  # fmt: skip
        count = sum(one.matters for one in self.without)
        notes = [
            f"Mean loss of {self.rows} rows without each part. {count} parts matter by more than chance in these rows "
            "(95%, each for itself). A removed token moves those behind it; a soft slot becomes a mean embedding."
        ]
        head = ["without", "loss", "more", "interval", "right answers (%)"]
        return {"title": "What each part is worth", "notes": notes if lines else [], "head": head, "lines": lines,
                "folded": len(lines) > _LONG}  # fmt: skip

    def _attention(self) -> dict[str, Any]:
        lines = [[one.site, f"{100 * one.share:.1f}%", f"{100 * one.even:.1f}%"] for one in self.attention]
        notes = [
            "Share of the content's attention that goes to what stands in front; mean over heads, tokens and rows."
        ]
        chart = None
        if len(lines) > 1:
            points = [{"name": str(place), "value": one.share} for place, one in enumerate(self.attention)]
            chart = {"title": "Attention on the foreword by site (%)", "metric": "accuracy", "points": points}
        head = ["site", "attention", "if every token got the same"]
        return {"title": "Attention", "notes": notes if lines else [], "chart": chart, "head": head, "lines": lines}

    def render(self) -> str:
        """For people."""
        out = [f"{self.name}, {self.rows} rows"]
        for table in self.tables():
            out += ["", table["title"], *(f"  {note}" for note in table["notes"])]
            if not table["lines"]:
                continue
            lines = [table["head"], *([short(cell) for cell in line] for line in table["lines"])]
            widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
            out += ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join(out)
