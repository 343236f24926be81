"""Small charts as SVG text, without a library: scores with intervals, curves, and figures side by side.

Drawn narrow, so that the letters are still read when a phone scales the drawing down; a name stands on a line of its
own, so that none is cut. Every drawing has a title and, in words, what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

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
    name = f'<text x="4" y="18" class="name">{escape(title)}</text>'
    return "".join([head, f"<title>{escape(title)}</title><desc>{escape(said)}</desc>", name, *body, "</svg>"])


def empty(title: str) -> str:
    """What is drawn where there is nothing to draw."""
    return drawing(title, TOP + 30, [f'<text x="4" y="{TOP + 10}">no finite values</text>'], "no finite values")


def words(x: float, y: float, text: str, anchor: str = "start", kind: str = "tick") -> str:
    """One text of a drawing."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


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


def intervals(title: str, figures: Mapping[str, Mapping[str, Any]], text: Write) -> str:
    """Two lines a system: its name and its value; below, a dot and a bar from ``low`` to ``high``, where there are."""
    shown = {name: f for name, f in figures.items() if f["value"] is not None and math.isfinite(f["value"])}
    if not shown:
        return empty(title)
    ends = [f[key] for f in shown.values() for key in ("value", "low", "high") if f.get(key) is not None]
    low, high = around([end for end in ends if math.isfinite(end)])
    height = TOP + LINE * len(shown) + 22
    across = Scale(low, high, 12, WIDTH - 12)
    body = []
    for tick in across.ticks():
        x = across(tick)
        body.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 10}" y2="{height - 22}"/>')
        side = "start" if x < 30 else "end" if x > WIDTH - 30 else "middle"
        body.append(words(x, height - 6, text(tick), side))
    for place, (name, figure) in enumerate(shown.items()):
        middle = TOP + LINE * place + 20
        body.append(words(4, middle - 10, name, kind="label"))
        body.append(words(WIDTH - 4, middle - 10, text(figure["value"]), "end", "label"))
        if figure.get("low") is not None and figure.get("high") is not None:
            ends_at = f'x1="{across(figure["low"])}" x2="{across(figure["high"])}"'
            body.append(f'<line class="bar" {ends_at} y1="{middle}" y2="{middle}"/>')
        body.append(f'<circle class="dot" cx="{across(figure["value"])}" cy="{middle}" r="4.5"/>')
    return drawing(title, height, body, _said({name: figure["value"] for name, figure in shown.items()}, text))


def _said(values: Mapping[str, float], text: Write) -> str:
    return "; ".join(f"{name}: {text(value)}" for name, value in values.items())


def curve(title: str, axis: str, points: Sequence[tuple[float, float]], text: Write, height: int = 220) -> str:
    """A line through (x, y) points, in the order given; ``axis`` names x, ``text`` writes a y value.

    Needs at least one finite point.
    """
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    across = Scale(*around([x for x, _ in kept]), LEFT, WIDTH - RIGHT)
    down = Scale(*around([y for _, y in kept]), height - 40, TOP - 10)
    body = [*rows_of_grid(down, text), *under(across, axis, height, whole=all(float(x).is_integer() for x, _ in kept))]
    body.append(f'<polyline class="curve" points="{" ".join(f"{across(x)},{down(y)}" for x, y in kept)}"/>')
    if len(kept) < 40:
        body += [f'<circle class="dot" cx="{across(x)}" cy="{down(y)}" r="2.5"/>' for x, y in kept]
    (first, start), (last, end) = kept[0], kept[-1]
    return drawing(title, height, body, f"{axis} {number(first)}: {text(start)}; {axis} {number(last)}: {text(end)}")


def under(across: Scale, axis: str, height: float, whole: bool = False) -> list[str]:
    """The numbers below a chart (``whole``: between whole numbers there is nothing), and what they count."""
    ticks = [tick for tick in across.ticks() if tick >= 0 and not (whole and tick % 1)]
    out = [words(across(tick), height - 24, number(tick), "middle") for tick in ticks]
    return [*out, words(WIDTH - RIGHT, height - 6, axis, "end")]


def steps(
    title: str, points: Sequence[Mapping[str, Any]], text: Write, line: float | None = None, height: int = 240
) -> str:
    """Values with intervals side by side, in the order given, joined by a line.

    Args:
        points: each with ``name``, ``value``; where there is an interval, ``low`` and ``high``; where there is another
            value to see beside it, ``beside``.
        text: writes a value.
        line: a value to draw across, for instance what is good enough.
    """
    kept = [p for p in points if p["value"] is not None and math.isfinite(p["value"])]
    if not kept:
        return empty(title)
    ends = [p[key] for p in kept for key in ("value", "low", "high", "beside") if p.get(key) is not None]
    down = Scale(*around([*ends, *([] if line is None else [line])]), height - 30, TOP - 10)
    room = (WIDTH - LEFT - RIGHT) / len(kept)
    # Where the names do not fit side by side, every second or third is written.
    every = math.ceil((max(width(str(p["name"])) for p in kept) + 6) / room)
    body = rows_of_grid(down, text)
    if line is not None:
        ends_at = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(line)}" y2="{down(line)}"'
        body.append(f'<line class="bar" stroke-dasharray="4 4" {ends_at}/>')
    places = [round(LEFT + (i + 0.5) * room, 1) for i in range(len(kept))]
    middle = " ".join(f"{x},{down(p['value'])}" for x, p in zip(places, kept, strict=True))
    body.append(f'<polyline class="curve" points="{middle}"/>')
    for i, (x, p) in enumerate(zip(places, kept, strict=True)):
        if i % every == 0:
            body.append(words(x, height - 10, str(p["name"]), "middle"))
        if p.get("low") is not None and p.get("high") is not None:
            body.append(f'<line class="bar" x1="{x}" x2="{x}" y1="{down(p["low"])}" y2="{down(p["high"])}"/>')
        if p.get("beside") is not None:
            body.append(f'<circle class="ring" cx="{x}" cy="{down(p["beside"])}" r="4"/>')
        body.append(f'<circle class="dot" cx="{x}" cy="{down(p["value"])}" r="4"/>')
    return drawing(title, height, body, _said({str(p["name"]): p["value"] for p in kept}, text))
