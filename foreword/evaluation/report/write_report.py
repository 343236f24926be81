"""A run's report: report.json, report.md and report.html, and report.zh-CN.md, which is report.md in Chinese.

The keys of the report are those of :class:`foreword.evaluation.report.report_types.Report`; all of them may be absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreword.data.quality.unicode import cjk_share
from foreword.evaluation.report.html import render_html
from foreword.evaluation.report.markdown import render_markdown
from foreword.messages import index_of
from foreword.storage import write_atomically

__all__ = ["render_html", "render_markdown", "write_report"]


def write_report(folder: str | Path, report: Mapping[str, Any]) -> dict[str, Path]:
    """Write report.json, report.md, report.zh-CN.md and report.html into ``folder``; returns format -> path.

    report.json is strict JSON: a figure that is not finite becomes null. Its ``messages`` let a reader say the
    sentences in another language, and ``language`` is that of the rows where nobody chose one.

    Raises:
        DataError: a key holds what its place has no room for.
    """
    messages = {**(report.get("messages") or {}), **index_of(report)}
    report = {"language": language_of(report), **report, "messages": messages}
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


def language_of(report: Mapping[str, Any]) -> str:
    """``zh`` where most letters of the rows that are shown, or of the prompt where none are, are Chinese."""
    rows = [str(row.get("input", "")) for row in report.get("rows") or [] if isinstance(row, Mapping)]
    task = report.get("task")
    asked = str(task.get("guidance") or "") if isinstance(task, Mapping) else ""
    return "zh" if cjk_share(rows or [asked]) > 0.5 else "en"


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
