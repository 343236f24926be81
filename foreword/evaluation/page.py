"""The report as one HTML page that needs nothing else: no network, no script, readable on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from foreword.evaluation.contents import Chart, Section, Table, Text, sections

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1d20; --soft: #63666d; --line: #d9dbe0; --paper: #fff; --mark: #1a5fb4;
  --warn: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --soft: #a3a7af; --line: #3a3d44; --paper: #17181b;
  --mark: #78aeed; --warn: #f0b060; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Noto Sans CJK SC", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.lead { font-size: 1.2rem; font-weight: 600; }
.warning { color: var(--warn); border-left: 3px solid; padding-left: .7rem; }
.wide { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top;
  overflow-wrap: normal; max-width: 28rem; white-space: pre-line; }
td:last-child { overflow-wrap: anywhere; min-width: 3rem; } td.shade { padding: .3rem .7rem; }
svg { width: 100%; max-width: 34rem; height: auto; display: block; margin: .5rem 0; }
svg text { fill: var(--ink); font-size: 13px; } svg .tick { fill: var(--soft); font-size: 11px; }
svg .name { font-weight: 600; } svg .grid { stroke: var(--line); } svg .bar { stroke: var(--mark); stroke-width: 2; }
svg .dot { fill: var(--mark); } svg .curve { fill: none; stroke: var(--mark); stroke-width: 1.6; }
"""


def render_html(report: Mapping[str, Any]) -> str:
    """The report as a self-contained page; every text from rows and settings is escaped."""
    title = escape(str(report.get("title", "foreword report")))
    body = "\n".join(_section(section) for section in sections(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.title)}</h2>\n" if section.title else ""
    return f"<section>\n{heading}" + "\n".join(_block(block) for block in section.blocks) + "\n</section>"


def _block(block: Text | Table | Chart) -> str:
    if isinstance(block, Text):
        return f'<p class="{escape(block.tone)}">{escape(block.text)}</p>'
    if isinstance(block, Chart):
        return block.svg
    head = "".join(f"<th>{escape(cell)}</th>" for cell in block.head)
    lines = []
    for place, line in enumerate(block.lines):
        shades = block.shades[place] if block.shades else [None] * len(line)
        lines.append("".join(_cell(cell, shade) for cell, shade in zip(line, shades, strict=True)))
    rows = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>'


def _cell(text: str, shade: float | None) -> str:
    if shade is None:
        return f"<td>{escape(text)}</td>"
    # A see-through mark colour reads in the light and in the dark page.
    return f'<td class="shade" style="background: rgba(53, 132, 228, {0.55 * shade:.3f})">{escape(text)}</td>'
