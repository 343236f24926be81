"""The report as Markdown, in one language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from foreword.evaluation.report.blocks import Block, Card, Items, ReadRows, Table, Text, Words
from foreword.evaluation.report.report_types import Report
from foreword.evaluation.report.sections import page_of
from foreword.evaluation.report.translator import Translator
from foreword.messages import Message, said_in

MAX_ROWS = 50
_Say = Callable[[str, bool], str]


def render_markdown(report: Mapping[str, Any], language: Literal["en", "zh"] = "en") -> str:
    """The report as Markdown; in Chinese, texts of rows, labels and settings stay as they are."""
    typed = Report.of(report)
    translator = Translator(typed.messages)

    def say(text: str, ours: bool = True) -> str:
        ours = ours or isinstance(text, Message)
        return _inline(said_in(translator.ours(text), language) if ours else text)

    page = page_of(typed, translator)
    parts = [f"# {say(page.title)}\n"]
    if page.subtitle:
        parts.append(f"{say(page.subtitle)}\n")
    if page.card is not None:
        parts += _card(page.card, say)
    for section in page.sections:
        if section.title:
            parts.append(f"## {say(section.title)}\n")
        for block in section.blocks:
            parts += _block(block, say, language)
    return "\n".join(parts)


def _card(card: Card, say: _Say) -> Iterator[str]:
    answer = f"{say(card.answer, True)}: " if card.answer else ""
    yield f"**{answer}{say(card.headline, True)}**\n"
    if card.lines:
        yield "".join(f"- {say(line, True)}\n" for line in card.lines)
    if card.footnote:
        yield f"{say(card.footnote, True)}\n"


def _block(block: Block, say: _Say, language: str) -> Iterator[str]:
    if isinstance(block, Text):
        text = say(block.text, block.tone not in ("code", "value"))
        warning = "警告：" if language == "zh" else "warning: "
        forms = {"warning": f"> {warning}{text}\n", "part": f"### {text}\n", "code": f"`{block.text}`\n"}
        yield forms.get(block.tone, f"{text}\n")
    elif isinstance(block, Items):
        yield "".join(f"- {say(text, True)}\n" for text in block.texts)
    elif isinstance(block, Words):
        yield "".join(f"- {say(name, True)}: {say(text, False)}\n" for name, text in block.parts)
    elif isinstance(block, Table):
        yield _table(block, say)
    elif isinstance(block, ReadRows):
        yield from _rows(block, say)


def _rows(block: ReadRows, say: _Say) -> Iterator[str]:
    """A table for each reason, without the rows that are only there to be looked up."""
    rows = [row for row in block.rows if row.why != "other"][:MAX_ROWS]
    for why in dict.fromkeys(row.why for row in rows):
        if why:
            yield f"### {say(block.reasons[why], True)}\n"
        lines = [[row.input, row.gold, *(answer.text for answer in row.answers)] for row in rows if row.why == why]
        yield _table(Table([Message("input"), Message("gold"), *block.systems], lines), say)
    if len(rows) < len(block.rows):
        yield f"{say(Message('{n} more rows are in report.json.', n=len(block.rows) - len(rows)), True)}\n"


def _inline(text: str) -> str:
    """Text from rows and settings must not turn into markup: pipes, HTML and emphasis are escaped."""
    flat = " ".join(text.split())
    for sign in "\\`*_<>|[]":
        flat = flat.replace(sign, f"\\{sign}")
    return flat


def _table(table: Table, say: _Say) -> str:
    lines = [[say(cell, table.says(place, head=True)) for place, cell in enumerate(table.head)]]
    lines += [[say(cell, table.says(place)) for place, cell in enumerate(line)] for line in table.lines]
    lines.insert(1, ["---"] * len(table.head))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
