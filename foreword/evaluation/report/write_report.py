"""A run's report: report.json, report.md and report.html, and report.zh-CN.md, which is report.md in Chinese.

The keys of the report are listed in :mod:`foreword.evaluation.report.sections`; all of them may be absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from foreword.evaluation.report.blocks import Items, Table, Text
from foreword.evaluation.report.chinese import chinese
from foreword.evaluation.report.html import render_html
from foreword.evaluation.report.sections import sections
from foreword.storage import write_atomically

__all__ = ["render_html", "render_markdown", "write_report"]


def write_report(folder: str | Path, report: Mapping[str, Any]) -> dict[str, Path]:
    """Write report.json, report.md, report.zh-CN.md and report.html into ``folder``; returns format -> path.

    report.json is strict JSON: a figure that is not finite becomes null.
    """
    contents = {
        "json": json.dumps(_strict(report), ensure_ascii=False, indent=2, allow_nan=False) + "\n",
        "md": render_markdown(report),
        "zh-CN.md": render_markdown(report, "zh"),
        "html": render_html(report),
    }
    paths = {form: Path(folder) / f"report.{form}" for form in contents}
    for form, content in contents.items():
        write_atomically(paths[form], [content.encode("utf-8", "backslashreplace")])
    return paths


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def render_markdown(report: Mapping[str, Any], language: Literal["en", "zh"] = "en") -> str:
    """The report as Markdown; in Chinese, texts of rows, labels and settings stay as they are."""

    def said(text: str, ours: bool = True) -> str:
        return _inline((chinese(text) if ours and language == "zh" else None) or text)

    parts = [f"# {said(str(report.get('title', 'foreword report')))}\n"]
    for section in sections(report):
        if section.title:
            parts.append(f"## {said(section.title)}\n")
        for block in section.blocks:
            if isinstance(block, Text):
                text = said(block.text)
                warning = "警告：" if language == "zh" else "warning: "
                forms = {"lead": f"**{text}**\n", "warning": f"> {warning}{text}\n", "part": f"### {text}\n"}
                parts.append(forms.get(block.tone, f"{text}\n"))
            elif isinstance(block, Items):
                parts.append("".join(f"- {said(text)}\n" for text in block.texts))
            elif isinstance(block, Table):
                parts.append(_markdown_table(block, said))
    return "\n".join(parts)


def _inline(text: str) -> str:
    """Text from rows and settings must not turn into markup: pipes, HTML and emphasis are escaped."""
    flat = " ".join(text.split())
    for sign in "\\`*_<>|[]":
        flat = flat.replace(sign, f"\\{sign}")
    return flat


def _markdown_table(table: Table, said: Callable[[str, bool], str]) -> str:
    lines = [[said(cell, table.says(place, head=True)) for place, cell in enumerate(table.head)]]
    lines += [[said(cell, table.says(place)) for place, cell in enumerate(line)] for line in table.lines]
    lines.insert(1, ["---"] * len(table.head))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
