"""A finished run's report as a part of the page: the blocks that report.html is made of, in one language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from foreword.evaluation.report.html import blocks_html
from foreword.evaluation.report.report_types import Report
from foreword.evaluation.report.sections import page_of
from foreword.evaluation.report.translator import Translator


def report_html(report: Mapping[str, Any], language: str) -> Markup:
    """Verdict card and sections; every text from rows and settings is escaped."""
    typed = Report.of(report)
    translator = Translator(typed.messages)
    return blocks_html(page_of(typed, translator), translator, language)
