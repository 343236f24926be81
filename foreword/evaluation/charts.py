"""Small charts as SVG text, without a library: scores with intervals, and a curve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

# Narrow, so that the letters are still read when a phone scales the drawing down.
WIDTH = 460
LEFT, RIGHT, TOP, LINE = 130, 30, 36, 30


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside [low, high], about ``count`` of them."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step = next((step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count), step * 10)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _svg(title: str, height: int, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">'
    )
    name = f'<text x="8" y="18" class="name">{escape(title)}</text>'
    return "".join([head, f"<title>{escape(title)}</title>", name, *body, "</svg>"])


def _cut(text: str, length: int = 16) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def intervals(title: str, figures: Mapping[str, Mapping[str, Any]], text: Callable[[float], str]) -> str:
    """One line a system: a dot at its value, a bar from ``low`` to ``high`` where there is an interval."""
    shown = {name: f for name, f in figures.items() if f["value"] is not None and math.isfinite(f["value"])}
    if not shown:
        return _svg(title, TOP + LINE, [f'<text x="8" y="{TOP + 18}">no finite values</text>'])
    ends = [f[key] for f in shown.values() for key in ("value", "low", "high") if f.get(key) is not None]
    low, high = _range([end for end in ends if math.isfinite(end)])
    height = TOP + LINE * len(shown) + 26

    def across(value: float) -> float:
        return round(LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    body = []
    for tick in _ticks(low, high):
        body.append(f'<line class="grid" x1="{across(tick)}" x2="{across(tick)}" y1="{TOP - 6}" y2="{height - 24}"/>')
        body.append(f'<text class="tick" x="{across(tick)}" y="{height - 8}" text-anchor="middle">{text(tick)}</text>')
    for place, (name, figure) in enumerate(shown.items()):
        middle = TOP + LINE * place + 10
        body.append(f'<text x="8" y="{middle + 4}">{escape(_cut(name))}</text>')
        if figure.get("low") is not None and figure.get("high") is not None:
            ends_at = f'x1="{across(figure["low"])}" x2="{across(figure["high"])}"'
            body.append(f'<line class="bar" {ends_at} y1="{middle}" y2="{middle}"/>')
        body.append(f'<circle class="dot" cx="{across(figure["value"])}" cy="{middle}" r="5"/>')
    return _svg(title, height, body)


def curve(
    title: str, axis: str, points: Sequence[tuple[float, float]], text: Callable[[float], str], height: int = 220
) -> str:
    """A line through (x, y) points, in the order given; ``axis`` names x, ``text`` writes a y value.

    Needs at least one finite point.
    """
    kept = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    (left, right), (low, high) = _range([x for x, _ in kept]), _range([y for _, y in kept])
    start, bottom = 56, height - 30

    def across(x: float) -> float:
        return round(start + (x - left) / (right - left) * (WIDTH - start - 16), 1)

    def down(y: float) -> float:
        return round(bottom - (y - low) / (high - low) * (bottom - TOP), 1)

    body = []
    for tick in _ticks(low, high):
        body.append(f'<line class="grid" x1="{start}" x2="{WIDTH - 16}" y1="{down(tick)}" y2="{down(tick)}"/>')
        body.append(f'<text class="tick" x="{start - 6}" y="{down(tick) + 4}" text-anchor="end">{text(tick)}</text>')
    for tick in _ticks(left, right):
        body.append(f'<text class="tick" x="{across(tick)}" y="{height - 12}" text-anchor="middle">{tick:.4g}</text>')
    body.append(f'<text class="tick" x="{WIDTH - 16}" y="{TOP - 14}" text-anchor="end">by {escape(axis)}</text>')
    body.append(f'<polyline class="curve" points="{" ".join(f"{across(x)},{down(y)}" for x, y in kept)}"/>')
    if len(kept) < 40:
        body += [f'<circle class="dot" cx="{across(x)}" cy="{down(y)}" r="2.5"/>' for x, y in kept]
    return _svg(title, height, body)


def steps(
    title: str,
    points: Sequence[Mapping[str, Any]],
    text: Callable[[float], str],
    line: float | None = None,
    height: int = 240,
) -> str:
    """Values with intervals side by side, in the order given, joined by a line.

    Args:
        points: each with ``name``, ``value`` and, where there is an interval, ``low`` and ``high``.
        text: writes a value.
        line: a value to draw across, for instance what is good enough.
    """
    kept = [p for p in points if p["value"] is not None and math.isfinite(p["value"])]
    ends = [p[key] for p in kept for key in ("value", "low", "high") if p.get(key) is not None]
    if not kept:
        return _svg(title, TOP + LINE, [f'<text x="8" y="{TOP + 18}">no finite values</text>'])
    low, high = _range([*ends, *([] if line is None else [line])])
    start, bottom = 56, height - 30

    def across(place: int) -> float:
        return round(start + (place + 0.5) / len(kept) * (WIDTH - start - 16), 1)

    def down(y: float) -> float:
        return round(bottom - (y - low) / (high - low) * (bottom - TOP), 1)

    body = []
    for tick in _ticks(low, high):
        body.append(f'<line class="grid" x1="{start}" x2="{WIDTH - 16}" y1="{down(tick)}" y2="{down(tick)}"/>')
        body.append(f'<text class="tick" x="{start - 6}" y="{down(tick) + 4}" text-anchor="end">{text(tick)}</text>')
    if line is not None:
        ends_at = f'x1="{start}" x2="{WIDTH - 16}" y1="{down(line)}" y2="{down(line)}"'
        body.append(f'<line class="bar" stroke-dasharray="4 4" {ends_at}/>')
    middle = " ".join(f"{across(i)},{down(p['value'])}" for i, p in enumerate(kept))
    body.append(f'<polyline class="curve" points="{middle}"/>')
    for i, p in enumerate(kept):
        name = escape(_cut(str(p["name"]), 8))
        body.append(f'<text class="tick" x="{across(i)}" y="{height - 12}" text-anchor="middle">{name}</text>')
        if p.get("low") is not None and p.get("high") is not None:
            body.append(
                f'<line class="bar" x1="{across(i)}" x2="{across(i)}" y1="{down(p["low"])}" y2="{down(p["high"])}"/>'
            )
        body.append(f'<circle class="dot" cx="{across(i)}" cy="{down(p["value"])}" r="4"/>')
    return _svg(title, height, body)
