"""The parts of small charts as SVG text: scales, grids, words in both languages.

Drawn narrow, so that the letters are still read when a phone scales the drawing down; a name stands on a line of its
own, so that none is cut. Every drawing has a title and, in words, what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from foreword.messages import Message

WIDTH = 400
LEFT, RIGHT, TOP, LINE = 58, 18, 40, 40
SIZE = 11
"""Height of the letters of ticks and marks, in the drawing's units."""

Write = Callable[[float], str]


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high`` laid between the places ``start`` and ``end``; ``log``: by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; what lies outside is drawn at the edge."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (min(max(value, low), high) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers, three or more wherever there is room for them."""
        if not self.log:
            return _linear(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5)):
            found = [f * 10.0**p for p in powers for f in factors if self.low <= f * 10.0**p <= self.high]
            if len(found) >= 3:
                return found[:: math.ceil(len(found) / 6)]
        return _linear(self.low, self.high)


def _linear(low: float, high: float) -> list[float]:
    found: list[float] = []
    size = math.floor(math.log10((high - low) / 3))
    for factor in (10, 5, 2.5, 2, 1):
        step = factor * 10.0**size
        first = math.ceil(low / step - 1e-9)
        found = [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]
        if len(found) >= 3:
            break
    return found


def around(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a little room on both sides."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def width(text: str, size: float = SIZE) -> float:
    """About how wide a text is drawn; Chinese characters are square."""
    return sum(size if ord(sign) > 0x2E7F else 0.58 * size for sign in text)


def drawing(title: str, height: float, body: Sequence[str], said: str) -> str:
    """The SVG element around a chart's parts; ``said`` tells in words what it shows."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">'
    name = words(4, 18, title, kind="name") if title else ""
    return "".join([head, f"<title>{escape(title or said)}</title><desc>{escape(said)}</desc>", name, *body, "</svg>"])


def empty(title: str) -> str:
    """What is drawn where there is nothing to draw."""
    return drawing(title, TOP + 30, [words(4, TOP + 10, Message("no finite values"))], "no finite values")


def words(x: float, y: float, text: str, anchor: str = "start", kind: str = "tick") -> str:
    """One text of a drawing; a message in every language, of which a page shows one."""
    place = f'class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    other = text.render("zh") if isinstance(text, Message) else text
    if other == text:
        return f"<text {place}>{escape(text)}</text>"
    return f'<text lang="en" {place}>{escape(text)}</text><text lang="zh" {place}>{escape(other)}</text>'


def rows_of_grid(down: Scale, text: Write) -> list[str]:
    """Lines across, each with its value at the left."""
    out = []
    for tick in down.ticks():
        y = down(tick)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        out.append(words(LEFT - 6, y + 4, text(tick), "end"))
    return out


def number(value: float) -> str:
    """A number at an axis: with commas, or with a few digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def under(across: Scale, axis: str, height: float, whole: bool = False) -> list[str]:
    """The numbers below a chart (``whole``: between whole numbers there is nothing), and what they count."""
    ticks = [tick for tick in across.ticks() if tick >= 0 and not (whole and tick % 1)]
    out = [words(across(tick), height - 24, number(tick), "middle") for tick in ticks]
    return [*out, words(WIDTH - RIGHT, height - 6, axis, "end")]
