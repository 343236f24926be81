"""The explain card: as JSON, as tables of a report, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foreword.evaluation.report.blocks import short
from foreword.evaluation.report.summary import figure_text, named
from foreword.evaluation.report.text_table import text_table
from foreword.messages import Message, say, say_if_known
from foreword.messages.width import wrapped
from foreword.studies.explain.ablation import Without
from foreword.studies.explain.attention_share import AttentionShare
from foreword.studies.explain.imitation import Imitation
from foreword.studies.explain.nearest_words import NearestWords

_LONG = 12
"""Lines from which a page folds a table below its chart."""
_TERMINAL, _WIDE, _SHOWN = 10, 80, 4
"""Lines and columns of the summary on a terminal, and the words that it shows."""
_SURE = 0.9
"""Share of equal answers from which a text is said to answer like the foreword."""
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
    nearest: Sequence[NearestWords] = ()
    without: Sequence[Without] = ()
    attention: Sequence[AttentionShare] = ()
    imitation: Imitation | None = None
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        near = [{**asdict(one), "readable": one.readable} for one in self.nearest]
        without = [{**asdict(one), "matters": one.matters} for one in self.without]
        return {**asdict(self), "nearest": near, "without": without, "notes": list(self.notes)}

    def tables(self) -> list[dict[str, Any]]:
        """Tables as a report has them (:mod:`foreword.evaluation.report.sections`)."""
        tokens = [one for one in self.without[1:] if one.part.startswith(("token", "slot"))]
        layers = [one for one in self.without[1:] if one not in tokens]
        short_of_it = {"title": "Explained", "notes": list(self._said()), "head": [], "lines": []}
        made = [
            short_of_it,
            self._nearest(),
            self._imitation(),
            self._without("What each virtual token is worth", tokens),
            self._without("What each layer's part is worth", layers),
            self._attention(),
        ]
        notes = {"title": "What could not be explained", "notes": list(self.notes), "head": [], "lines": []}
        return [{**one, "part": PART} for one in (*made, notes) if one["lines"] or one["notes"]]

    def _said(self) -> Iterator[str]:
        """What the tables come to, a sentence each."""
        found, parts = self.imitation, sorted(self.without[1:], key=lambda one: -one.more)
        if found is not None:
            facts = {"k": found.tried, "n": _share(found.equal), "m": found.rows}
            if found.low >= _SURE:
                yield Message("It can be said in words: a text answers {n} of {m} rows as it does.", **facts)
            elif found.high < _SURE:
                yield Message(
                    "It cannot be said in the words that were tried: the best of {k} texts answers {n} of {m} rows as "
                    "it does.",
                    **facts,
                )
            else:
                yield Message("The best of {k} texts answers {n} of {m} rows as it does.", **facts)
        lost = [Message("{part} ({m})", part=called(one.part), m=f"{one.more:+.2f}") for one in parts if one.low > 0][
            :3
        ]
        if lost:
            yield Message("Most is lost without {names}.", names=lost)
        elif parts:
            yield Message("No single part is missed by more than chance in these rows.")
        if len(self.attention) > 1:
            most, least = (pick(self.attention, key=lambda one: one.share) for pick in (max, min))
            yield Message(
                "Attention goes to it most at {word} ({n}), least at {site} ({m}).",
                word=most.site, n=_share(most.share), site=least.site, m=_share(least.share),
            )  # fmt: skip

    def _nearest(self) -> dict[str, Any]:
        # Keys and values have a distance at every site, and so none to show.
        far = any(one.distance is not None for one in self.nearest)
        lines = [
            [called(one.name), "  ".join(repr(token) for token in one.tokens),
             "yes" if one.readable else "not readable",
             f"{one.cosines[0]:.3f}", f"{one.chance:.3f}", *([one.distance] if far else [])]
            for one in self.nearest
        ]  # fmt: skip
        count = sum(one.readable for one in self.nearest)
        notes = [
            Message(
                "{n} of {m} virtual tokens are nearer to a word than chance. Where one is not, its nearest words are "
                "no reading of it. Chance: 99 of 100 random directions stay below this cosine.",
                n=count,
                m=len(lines),
            )
        ]
        head = ["", "nearest tokens", "readable", "cosine", "chance", *(["distance"] if far else [])]
        return {"title": "Nearest words", "notes": notes if lines else [], "head": head, "lines": lines, "own": [0, 2],
                "folded": "lines" if len(lines) > 2 * _LONG else False}  # fmt: skip

    def _imitation(self) -> dict[str, Any]:
        found, notes, lines = self.imitation, [], []
        if found is not None:
            notes = [
                Message(
                    "Share of {n} rows that a text answers as the foreword does. The best found is the best of {m}, "
                    "chosen on other rows; the prompt is the task's own.",
                    n=found.rows,
                    m=found.tried,
                )
            ]
            best, prompt = (
                (found.equal, found.low, found.high),
                (found.prompt_equal, found.prompt_low, found.prompt_high),
            )
            lines = [
                [name, text, _share(equal), Message("{low} to {high}", low=_share(low), high=_share(high))]
                for name, text, (equal, low, high) in (
                    ("the best found", found.text.strip(), best), ("the prompt", found.prompt.strip(), prompt)
                )
            ]  # fmt: skip
        head = ["", "text", "same answers", "95% interval"]
        return {"title": "A text that answers like it", "notes": notes, "head": head, "lines": lines, "own": [0, 3]}

    def _without(self, title: str, parts: Sequence[Without]) -> dict[str, Any]:
        lines = [
            [
                called(one.part),
                f"{one.loss:.4f}",
                f"{one.more:+.4f}",
                Message("{low} to {high}", low=f"{one.low:+.4f}", high=f"{one.high:+.4f}"),
                _right(one),
            ]
            for one in parts
        ]
        notes = [
            Message(
                "Mean loss of {n} rows without each part. {m} of {k} matter by more than chance in these rows (95%, "
                "each for itself).",
                n=self.rows,
                m=sum(one.matters for one in parts),
                k=len(parts),
            )
        ]
        if any(one.part.startswith("token") for one in parts):
            notes.append(Message("A removed token moves those behind it."))
        if any(one.part.startswith("slot") for one in parts):
            notes.append(Message("A soft slot keeps its place and becomes a mean embedding."))
        chart = None
        if len(lines) > 1:
            points = [{"name": _number(one.part), "value": one.more, "low": one.low, "high": one.high} for one in parts]
            chart = {"title": "Rise of the loss without it", "metric": "loss", "points": points, "line": 0.0}
            whole = self.without[0]
            lines = [["whole", f"{whole.loss:.4f}", "-", "-", _right(whole)], *lines]
        head = ["without", "loss", "more", "95% interval", "right answers (%)"]
        return {"title": title, "notes": notes if lines else [], "chart": chart, "head": head, "lines": lines,
                "own": [0, 3], "folded": "lines" if len(lines) > _LONG else False}  # fmt: skip

    def _attention(self) -> dict[str, Any]:
        lines = [[one.site, _share(one.share), _share(one.even)] for one in self.attention]
        notes = [
            "Share of the content's attention that goes to what stands in front; mean over heads, tokens and rows."
        ]
        chart = None
        if len(lines) > 1:
            points = [{"name": str(place), "value": one.share, "beside": one.even}
                      for place, one in enumerate(self.attention)]  # fmt: skip
            chart = {"title": "Attention on the foreword by site (%)", "metric": "accuracy", "points": points}
            notes.append("Rings: if every token got the same.")
        head = ["site", "attention", "if every token got the same"]
        return {"title": "Attention", "notes": notes if lines else [], "chart": chart, "head": head, "lines": lines,
                "folded": "lines" if len(lines) > _LONG else False}  # fmt: skip

    def render(self) -> str:
        """What it comes to, in ten lines at most; :meth:`details` has every figure."""
        lines = [Message("{name}, {rows} rows", name=self.name, rows=self.rows), *self._said(), *self._words()]
        lines += map(named, self.notes)
        shown = [one for line in lines for one in wrapped(say_if_known(line), _WIDE)]
        more = [*shown[: _TERMINAL - 2], "..."] if len(shown) > _TERMINAL - 1 else shown
        return "\n".join([*more, say(Message("every figure: -v, or --output-dir DIR for a page"))])

    def _words(self) -> Iterator[Message]:
        """Which words stand nearest, and the best text that was found."""
        readable = [one for one in self.nearest if one.readable]
        if self.nearest:
            shown = [f"{called(one.name)} {one.tokens[0]!r}" for one in readable[:_SHOWN]]
            more = ", ..." if len(readable) > _SHOWN else ""
            yield Message(
                "{n} of {m} virtual tokens are nearer to a word than chance: {names}{more}.",
                n=len(readable), m=len(self.nearest), names=shown or ["-"], more=more,
            )  # fmt: skip
        if self.imitation is not None and self.imitation.text.strip():
            yield Message("The text that answers most like it: {text!r}.", text=_one_line(self.imitation.text.strip()))

    def details(self) -> str:
        """Every table, for people."""
        out: list[str] = [say(Message("{name}, {rows} rows", name=self.name, rows=self.rows))]
        for table in self.tables():
            out += ["", say_if_known(table["title"]), *(f"  {say_if_known(note)}" for note in table["notes"])]
            if table["lines"]:
                head = [say_if_known(cell) for cell in table["head"]]
                lines = [head, *([_one_line(say_if_known(cell)) for cell in line] for line in table["lines"])]
                out += [f"  {line}" for line in text_table(lines)]
        return "\n".join(out)


def called(part: str) -> str:
    """A part's name as people read it: ``token 3``, ``encoder layer 2``."""
    kind, _, number = part.rpartition(" ")
    forms = {"token": "token {n}", "slot": "slot {n}", "layer": "layer {n}", "encoder layer": "encoder layer {n}"}
    return Message(forms[kind], n=int(number)) if kind in forms and number.isdigit() else part


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _right(one: Without) -> str:
    return "-" if one.metric is None else figure_text("accuracy", one.metric)


def _number(part: str) -> str:
    """``7`` of ``layer 7`` and ``token 7``; what has no number stays as it is."""
    last = part.rsplit(" ", 1)[-1]
    return last if last.isdigit() else part


def _one_line(cell: object, most: int = 80) -> str:
    text = short(cell).replace("\n", "\\n")
    return text if len(text) <= most else f"{text[: most - 3]}..."
