"""The charts of reports: scores with intervals, a difference, training, steps, cost against quality, a forecast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreword.evaluation.report.svg import (
    LEFT,
    LINE,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Write,
    around,
    drawing,
    empty,
    number,
    rows_of_grid,
    under,
    width,
    words,
)
from foreword.messages import Message

_HEIGHT = 250
_Points = Sequence[tuple[float, float]]
_NEAR = 6
"""Dots nearer than this lie on each other and share one mark."""


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        apart = self.right < other.left or other.right < self.left
        return not (apart or self.bottom < other.top or other.bottom < self.top)


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


def _said(values: Mapping[str, float], text: Write) -> str:
    return "; ".join(f"{name}: {text(value)}" for name, value in values.items())


def difference(figure: Mapping[str, Any], text: Write) -> str:
    """One bar of a paired difference from ``low`` to ``high`` with zero marked, and a dot at ``estimate``."""
    ends = [figure["low"], figure["high"], figure["estimate"], 0.0]
    if not all(map(math.isfinite, ends)):
        return empty("")
    across, middle = Scale(*around(ends), 14, WIDTH - 14), 18
    low, high, zero = across(figure["low"]), across(figure["high"]), across(0.0)
    body = [
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="2" y2="34"/>',
        f'<line class="bar thick" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>',
        f'<circle class="dot" cx="{across(figure["estimate"])}" cy="{middle}" r="6"/>',
    ]
    taken: list[tuple[float, float]] = []
    for place, label in ((zero, "0"), (low, text(figure["low"])), (high, text(figure["high"]))):
        half = width(label) / 2 + 3
        at = min(max(place, half), WIDTH - half)
        if all(at + half <= left or right <= at - half for left, right in taken):
            taken.append((at - half, at + half))
            body.append(words(at, 48, label, "middle"))
    return drawing("", 54, body, f"{text(figure['estimate'])} ({text(figure['low'])}, {text(figure['high'])})")


def training(losses: _Points, scores: _Points, names: tuple[str, str, str], text: Write, prompt: float | None) -> str:
    """The loss of every step above, the dev score of every evaluation below it, by one axis of steps.

    Args:
        losses, scores: (step, value), in their order.
        names: of the drawing, of the loss, of the score.
        text: writes a score.
        prompt: the prompt's dev score, drawn as a broken line.
    """
    losses, scores = ([(x, y) for x, y in points if math.isfinite(y)] for points in (losses, scores))
    if not losses and not scores:
        return empty(names[0])
    across = Scale(*around([x for x, _ in (*losses, *scores)]), LEFT, WIDTH - RIGHT)
    body, top = [], TOP
    if losses:
        body += [
            words(4, top + 6, names[1], kind="label"),
            *_line(losses, across, top + 16, top + 106, number, dots=False),
        ]
        top += 130
    if scores:
        body += [words(4, top + 6, names[2], kind="label"), *_line(scores, across, top + 16, top + 106, text, prompt)]
        top += 130
    body += under(across, Message("step"), top + 22, whole=True)
    said = [f"{name}: {write(points[0][1])} - {write(points[-1][1])}"
            for name, points, write in ((names[1], losses, number), (names[2], scores, text)) if points]  # fmt: skip
    return drawing(names[0], top + 26, body, "; ".join(said))


def _line(
    points: _Points,
    across: Scale,
    top: float,
    bottom: float,
    text: Write,
    level: float | None = None,
    dots: bool = True,
) -> list[str]:
    """A curve between two heights, with a grid, and a broken line at ``level``."""
    ends = [y for _, y in points] + ([] if level is None or not math.isfinite(level) else [level])
    down = Scale(*around(ends), bottom, top)
    body = rows_of_grid(down, text)
    if level is not None and math.isfinite(level):
        body.append(f'<line class="front" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(level)}" y2="{down(level)}"/>')
    body.append(f'<polyline class="curve" points="{" ".join(f"{across(x)},{down(y)}" for x, y in points)}"/>')
    if dots or len(points) < 3:
        body += [f'<circle class="dot" cx="{across(x)}" cy="{down(y)}" r="3"/>' for x, y in points]
    return body


def pareto(title: str, axis: str, points: Sequence[Mapping[str, Any]], text: Write) -> str:
    """Systems by what they cost (x, at least 0) and what they reach (y): numbered dots, their names below.

    Args:
        points: each with ``name``, ``x``, ``y`` and ``front``: whether no other is at least as good for less. Those on
            the front are filled and joined.
        axis: names x; text: writes a y value.
    """
    kept = [p for p in points if all(v is not None and math.isfinite(v) for v in (p["x"], p["y"])) and p["x"] >= 0]
    if not kept:
        return empty(title)
    down = Scale(*around([p["y"] for p in kept]), _HEIGHT - 44, TOP - 4)
    across, nothing = _costs([p["x"] for p in kept])
    place = [(across(p["x"]) if p["x"] or nothing is None else nothing, down(p["y"])) for p in kept]
    body = [*rows_of_grid(down, text), *under(across, axis, _HEIGHT)]
    if nothing is not None:
        body.append(words(nothing, _HEIGHT - 24, "0", "middle"))
    front = sorted(at for at, p in zip(place, kept, strict=True) if p.get("front"))
    if len(front) > 1:
        body.append(f'<polyline class="front" points="{" ".join(f"{x},{y}" for x, y in front)}"/>')
    for (x, y), p in zip(place, kept, strict=True):
        body.append(f'<circle class="{"dot" if p.get("front") else "ring"}" cx="{x}" cy="{y}" r="4.5"/>')
    body += _marks(place)
    for count, p in enumerate(kept, start=1):
        line = _HEIGHT + 18 * count
        body += [words(28, line, str(count), "end", "label"), words(38, line, str(p["name"]), kind="label")]
    said = "; ".join(f"{p['name']}: {text(p['y'])}, {axis} {number(p['x'])}" for p in kept)
    return drawing(title, _HEIGHT + 18 * len(kept) + 10, body, said)


def _costs(values: Sequence[float]) -> tuple[Scale, float | None]:
    """The scale of costs, by logarithm where they differ much; then what costs nothing has a place of its own."""
    real = [value for value in values if value > 0]
    if not real or max(real) < 8 * min(real):
        low, high = around(values)
        return Scale(max(0.0, low), high, LEFT + 6, WIDTH - RIGHT), None
    free = len(real) < len(values)
    low, high = min(real) / 1.3, max(real) * 1.3
    return Scale(low, high, LEFT + (36 if free else 8), WIDTH - RIGHT, log=True), LEFT + 10.0 if free else None


def _marks(places: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The number of each dot beside it; numbers and dots do not cover each other."""
    groups: list[tuple[tuple[float, float], list[int]]] = []
    for count, (x, y) in enumerate(places, start=1):
        home = next((g for g in groups if max(abs(g[0][0] - x), abs(g[0][1] - y)) < _NEAR), None)
        if home is None:
            groups.append(((x, y), [count]))
        else:
            home[1].append(count)
    taken = [_Box(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for (x, y), counts in groups:
        said = ", ".join(map(str, counts))
        box = next((one for one in _beside(x, y, width(said)) if _free(one, taken)), None)
        box = box or next(_beside(x, y, width(said)))
        taken.append(box)
        yield words(box.left, box.bottom - 2, said, kind="mark")


def _beside(x: float, y: float, wide: float) -> Iterator[_Box]:
    """Places for a text near a dot, the best first."""
    for far in (7, 12, 18, 26):
        yield _Box(x + far, y - 6, x + far + wide, y + 6)
        yield _Box(x - far - wide, y - 6, x - far, y + 6)
        yield _Box(x - wide / 2, y - far - 12, x + wide / 2, y - far)
        yield _Box(x - wide / 2, y + far, x + wide / 2, y + far + 12)


def _free(box: _Box, taken: Sequence[_Box]) -> bool:
    inside = box.left >= LEFT and box.right <= WIDTH and box.top >= 22 and box.bottom <= _HEIGHT - 34
    return inside and not any(box.meets(one) for one in taken)


def band(
    title: str, axis: str, measured: Sequence[tuple[float, float]], expected: Sequence[Mapping[str, Any]], text: Write
) -> str:
    """What was measured (dots) and what is expected (a line in its interval).

    Args:
        expected: each with ``rows``, ``value``, ``low``, ``high``, by rising rows.
        axis: names x; text: writes a y value.
    """
    xs = [x for x, _ in measured] + [one["rows"] for one in expected]
    ys = [y for _, y in measured] + [one[key] for one in expected for key in ("value", "low", "high")]
    if not xs or not all(map(math.isfinite, ys)):
        return empty(title)
    log = min(xs) > 0 and max(xs) > 8 * min(xs)
    low, high = (min(xs) / 1.2, max(xs) * 1.2) if log else around(xs)
    across = Scale(low, high, LEFT, WIDTH - RIGHT, log)
    down = Scale(*around(ys), _HEIGHT - 44, TOP - 10)
    body = rows_of_grid(down, text)
    sides = [(one["rows"], one["low"]) for one in expected] + [(one["rows"], one["high"]) for one in reversed(expected)]
    body.append(f'<polygon class="band" points="{" ".join(f"{across(x)},{down(y)}" for x, y in sides)}"/>')
    line = " ".join(f"{across(one['rows'])},{down(one['value'])}" for one in expected)
    body.append(f'<polyline class="curve" points="{line}"/>')
    body += [f'<circle class="dot" cx="{across(x)}" cy="{down(y)}" r="4"/>' for x, y in measured]
    body += _numbers(across, sorted({float(one["rows"]) for one in expected}))
    body.append(words(WIDTH - RIGHT, _HEIGHT - 6, axis, "end"))
    said = "; ".join(f"{number(x)} {axis}: {text(y)}" for x, y in measured)
    return drawing(title, _HEIGHT, body, said)


def _numbers(across: Scale, values: Sequence[float]) -> list[str]:
    """The very values below the axis, those that would touch their neighbour left out."""
    kept = [values[0]]
    for value in values[1:]:
        if across(value) - across(kept[-1]) > (width(number(value)) + width(number(kept[-1]))) / 2 + 6:
            kept.append(value)
    return [words(across(value), _HEIGHT - 24, number(value), "middle") for value in kept]
