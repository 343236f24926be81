"""The report as one HTML page that needs nothing else: no network, no script; for a phone, the dark and paper.

It is in English and Chinese at once: a switch above it, two radio buttons, shows one and hides the other by its style.
Texts of rows, labels and settings stand as they are in both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape, unescape
from typing import Any

from foreword.evaluation.report.blocks import Block, Chart, Items, Section, Table, Text
from foreword.evaluation.report.chinese import chinese
from foreword.evaluation.report.sections import sections

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1d20; --soft: #5c5f66; --line: #d9dbe0; --paper: #fff; --mark: #1a5fb4;
  --warn: #8a4b00; --fill: rgba(53, 132, 228, .16); }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --soft: #a3a7af; --line: #3a3d44;
  --paper: #17181b; --mark: #78aeed; --warn: #f0b060; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Noto Sans CJK SC", sans-serif; overflow-wrap: anywhere; }
#zh:checked ~ main [lang=en], #en:checked ~ main [lang=zh] { display: none; }
.switch { font-size: .85rem; color: var(--soft); margin-right: .8rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
.lead { font-size: 1.2rem; font-weight: 600; } ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
.warning { color: var(--warn); border-left: 3px solid; padding-left: .7rem; margin: .5rem 0; }
summary { font-weight: 600; padding: .4rem 0; cursor: pointer; }
.wide { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top;
  overflow-wrap: normal; word-break: keep-all; max-width: 28rem; }
tbody th { font-weight: 400; min-width: 4.5rem; } td { white-space: nowrap; } td.figure { text-align: right; }
td.text { white-space: pre-line; overflow-wrap: anywhere; word-break: normal; min-width: 12rem; }
.stack .head { display: none; }
@media (max-width: 40rem) { .stack thead { display: none; }
  .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .stack tbody th, .stack tbody td { display: block; border: 0; padding: .1rem 0; text-align: left; max-width: none;
    overflow-wrap: anywhere; }
  .stack tbody th { font-weight: 600; } .stack td { white-space: pre-line; }
  .stack .head { display: inline; color: var(--soft); } }
td.shade { padding: .3rem .7rem; text-align: right; }
figure { margin: .5rem 0 1rem; max-width: 30rem; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 13px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .label { font-size: 12px; } svg .mark { font-size: 11px; font-weight: 600; } svg .name { font-weight: 600; }
svg .grid { stroke: var(--line); } svg .bar { stroke: var(--mark); stroke-width: 2; } svg .dot { fill: var(--mark); }
svg .ring { fill: var(--paper); stroke: var(--mark); stroke-width: 1.5; } svg .band { fill: var(--fill); }
svg .curve { fill: none; stroke: var(--mark); stroke-width: 1.6; }
svg .front { fill: none; stroke: var(--mark); stroke-dasharray: 4 3; }
@media print { .switch, input { display: none; } .wide { overflow: visible; } td { white-space: normal; }
  table { font-size: .75rem; } th, td { padding-right: .5rem; overflow-wrap: break-word; }
  figure, tr { break-inside: avoid; } body { max-width: none; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""
_SWITCH = "".join(
    f'<input type="radio" name="language" id="{code}"{first}><label class="switch" for="{code}" lang="{code}">{name}'
    "</label>\n"
    for code, name, first in (("en", "English", " checked"), ("zh", "中文", ""))
)
_DRAWN = re.compile(r"<text ([^>]*)>([^<]*)</text>")
_FIGURE = re.compile(r"[-+<> ]*[\d.,]+(%|e[-+]\d+)?( \[.*\])?|-|")
_LONG, _READ = 24, 100
"""Characters from which a cell is a text that may be broken anywhere, and from which a table is one to read: a phone
shows the cells of its rows below each other, each with its column's name."""


def render_html(report: Mapping[str, Any]) -> str:
    """The report as a self-contained page; every text from rows and settings is escaped."""
    title = str(report.get("title", "foreword report"))
    body = "\n".join(_section(section) for section in sections(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{_SWITCH}"
        f"<main>\n<h1>{_both(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _both(text: str) -> str:
    """A text of ours in both languages; in one where the other has no words for it."""
    other = chinese(text)
    if other is None or other == text:
        return escape(text)
    return f'<span lang="en">{escape(text)}</span><span lang="zh">{escape(other)}</span>'


def _section(section: Section) -> str:
    body = "\n".join(_block(block, section.title) for block in section.blocks)
    if section.folded:
        return f"<details>\n<summary>{_both(section.title)}</summary>\n{body}\n</details>"
    heading = f"<h2>{_both(section.title)}</h2>\n" if section.title else ""
    return f"<section>\n{heading}{body}\n</section>"


def _block(block: Block, title: str) -> str:
    if isinstance(block, Text):
        if block.tone == "part":
            return f"<h3>{_both(block.text)}</h3>"
        return f'<p class="{escape(block.tone)}">{_both(block.text)}</p>'
    if isinstance(block, Items):
        return "<ul>\n" + "".join(f"<li>{_both(text)}</li>\n" for text in block.texts) + "</ul>"
    if isinstance(block, Chart):
        return f"<figure>{_DRAWN.sub(_drawn, block.svg)}</figure>"
    return _table(block, title)


def _drawn(found: re.Match[str]) -> str:
    attributes, text = found[1], found[2]
    other = chinese(unescape(text))
    if other is None:
        return found[0]
    return f'<text lang="en" {attributes}>{text}</text><text lang="zh" {attributes}>{escape(other)}</text>'


def _table(table: Table, title: str) -> str:
    columns = list(zip(*table.lines, strict=True)) if table.lines else []
    figures = [all(_FIGURE.fullmatch(cell) for cell in column) for column in columns]
    names = [_both(cell) if table.says(place, head=True) else escape(cell) for place, cell in enumerate(table.head)]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    ours = [table.says(place) for place in range(len(table.head))]
    stack = any(len(cell) > _READ for line in table.lines for cell in line)
    heads = [f'<span class="head">{name}: </span>' if stack and name else "" for name in names]
    lines = []
    for place, line in enumerate(table.lines):
        shades = table.shades[place] if table.shades else [None] * len(line)
        cells = [_cell(*one) for one in zip(line, shades, figures, ours, heads, strict=True)]
        name = _both(line[0]) if ours[0] else escape(line[0])
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(cells[1:])}</tr>\n')
    drawn = (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(title or "table")}">'
        f'<table class="{"stack" if stack else "figures"}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table></div>"
    )
    return f"<details>\n<summary>{_both('Figures')}</summary>\n{drawn}\n</details>" if table.folded else drawn


def _cell(text: str, shade: float | None, figure: bool, ours: bool, head: str) -> str:
    if shade is not None:
        # A see-through mark colour reads in the light and in the dark page.
        return f'<td class="shade" style="background: rgba(53, 132, 228, {0.55 * shade:.3f})">{escape(text)}</td>'
    kind = ' class="figure"' if figure else ' class="text"' if len(text) > _LONG else ""
    return f"<td{kind}>{head if text else ''}{_both(text) if ours else escape(text)}</td>"
