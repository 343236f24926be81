"""Charts with two measured axes: what is good for little work, and what more rows give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foreword.evaluation.report.charts import (
    LEFT,
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

_HEIGHT = 250
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
