"""The report as one HTML page that needs nothing else: no network, no script; for a phone, the dark and paper.

It is in English and Chinese at once: a switch above it, two radio buttons, shows one and hides the other by its style.
Texts of rows, labels and settings stand as they are in both. The page's look is in ``templates``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from foreword.evaluation.report.blocks import Page, ReadRows, Table
from foreword.evaluation.report.report_types import Report
from foreword.evaluation.report.sections import page_of
from foreword.evaluation.report.translator import Translator
from foreword.messages import Message, said_in

_FIGURE = re.compile(r"[-+<> ]*[\d.,]+(%|e[-+]\d+)?( \[.*\])?|-|")
_READ = 100
"""Characters of a cell from which a table is one to read: a phone shows the cells of its rows below each other, each
with its column's name."""


@dataclass(frozen=True)
class _Shape:
    """How a table is laid out: which columns hold figures, and whether a phone stacks its cells."""

    figures: list[bool]
    stack: bool


def render_html(report: Mapping[str, Any]) -> str:
    """The report as a self-contained page; every text from rows and settings is escaped."""
    typed = Report.of(report)
    translator = Translator(typed.messages)
    return html_of(page_of(typed, translator), translator)


def html_of(page: Page, translator: Translator) -> str:
    """A page's blocks as HTML."""
    environment = _environment()
    template = environment.overlay()
    template.filters = {
        **environment.filters,
        "both": lambda text: _both(translator.ours(text)),
        "drawn": Markup,
    }
    return template.get_template("report.html").render(
        style=Markup(_source("report.css")), **_values(page, translator, page.language)
    )


def blocks_html(page: Page, translator: Translator, language: str) -> Markup:
    """A page's title, card and sections in one language, to stand in a page that has their style already."""
    environment = _environment()
    template = environment.overlay()
    template.filters = {
        **environment.filters,
        "both": lambda text: said_in(translator.ours(text), language),
        "drawn": Markup,
    }
    return Markup(template.get_template("fragment.html").render(**_values(page, translator, language)))


def _values(page: Page, translator: Translator, language: str) -> dict[str, Any]:
    return {
        "page": page,
        "said": lambda text: said_in(translator.ours(text), language),
        "kind_of": lambda block: type(block).__name__,
        "shape_of": _shape,
        "is_message": lambda text: isinstance(text, Message),
        "wrong_of": lambda block: sum(bool(row.answers) and row.answers[-1].right is False for row in block.rows),
        "count_of": _count,
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("foreword.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        cache_size=0,
    )


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _both(text: str) -> Markup:
    """A text of ours in both languages; in one where the other has no words for it."""
    other = said_in(text, "zh")
    if other == text:
        return escape(text)
    return Markup('<span lang="en">{}</span><span lang="zh">{}</span>').format(str(text), other)


def _shape(table: Table) -> _Shape:
    columns = list(zip(*table.lines, strict=True)) if table.lines else []
    figures = [all(_FIGURE.fullmatch(cell) for cell in column) for column in columns]
    return _Shape(figures, any(len(cell) > _READ for line in table.lines for cell in line))


def _count(block: ReadRows, why: str) -> int:
    return sum(row.why == why for row in block.rows)
