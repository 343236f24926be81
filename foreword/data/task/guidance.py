"""Where the guidance goes: in front of the input, woven into it by the template, or in the place of a part of it.

*Extension*: in front. *Fusion*: wherever the template says ``{{ guidance }}``. *Replacement*: a span of a field, by
position or by pattern, gives way to it. It is the task's, one for all rows, or each row's own from a column; then the
task's stays in front of everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import regex

from foreword.data.quality.unicode import is_cjk
from foreword.data.row import label_text
from foreword.data.task.template import parsed
from foreword.errors import SettingsError
from foreword.messages import Message

Form = Literal["text", "keywords", "situation"]
Mode = Literal["extension", "fusion", "replacement"]
_POSITION = re.compile(r"(?P<field>.+?)\[(?P<start>-?\d*):(?P<stop>-?\d*)\]")
_PATTERN = re.compile(r"(?P<field>[^/]+)/(?P<pattern>.+)/")
# Chinese and Japanese write no spaces: there each character counts as a word.
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+")
# A pattern travels in a foreword's file; one that would run for ever is stopped.
_SECONDS = 2.0


class Guided(Protocol):
    """What a task says about its guidance."""

    @property
    def template(self) -> str: ...

    @property
    def guidance(self) -> str: ...

    @property
    def guidance_column(self) -> str: ...

    @property
    def guidance_form(self) -> Form: ...

    @property
    def guidance_replaces(self) -> str: ...

    @property
    def guidance_in_row(self) -> bool: ...


@dataclass(frozen=True)
class Span:
    """A part of a field: its words ``start:stop`` as Python slices them, or the first match of ``pattern``."""

    field: str
    start: int | None = None
    stop: int | None = None
    pattern: regex.Pattern[str] | None = None

    def of(self, text: str) -> tuple[int, int] | None:
        """First and last character (exclusive) of the span in a text; None where there is nothing of it.

        Raises:
            SettingsError: the pattern takes too long.
        """
        if self.pattern is not None:
            try:
                found = self.pattern.search(text, timeout=_SECONDS)
            except TimeoutError as error:
                raise SettingsError(
                    Message("the pattern takes more than {SECONDS:g} seconds on a row", SECONDS=_SECONDS),
                    where="guidance_replaces",
                    received=self.pattern.pattern,
                    hint="write a pattern without repeats inside repeats",
                ) from error
            return found.span() if found and found.group() else None
        words = list(_WORD.finditer(text))[self.start : self.stop]
        return (words[0].start(), words[-1].end()) if words else None


def span_of(text: str) -> Span:
    """What ``text[2:5]`` (words of the field ``text``) or ``text/a pattern/`` means.

    Raises:
        SettingsError: neither of the two, or a pattern that does not parse.
    """
    words = _POSITION.fullmatch(text)
    if words:
        start, stop = (int(one) if one not in ("", "-") else None for one in (words["start"], words["stop"]))
        return Span(words["field"], start, stop)
    found = _PATTERN.fullmatch(text)
    problem = "guidance_replaces names a span of a field"
    if found:
        try:
            return Span(found["field"], pattern=regex.compile(found["pattern"]))
        except regex.error as error:
            problem = Message("the pattern does not parse: {error}", error=error)
    raise SettingsError(problem, where="guidance_replaces", expected="text[2:5] or text/pattern/", received=text)


def mode_of(task: Guided) -> Mode:
    """Which way the guidance goes in."""
    if task.guidance_replaces:
        return "replacement"
    return "fusion" if parsed(task.template).guided else "extension"


def in_front(task: Guided) -> str:
    """The guidance that stands in front of every row and that nothing of a row changes: what a prefix stands for."""
    if task.guidance_column:
        return task.guidance
    return task.guidance if mode_of(task) == "extension" and not task.guidance_in_row else ""


def of_row(task: Guided, fields: Mapping[str, object]) -> str:
    """The guidance of one row: its own where the task has a column for it, else the task's."""
    if not task.guidance_column:
        return task.guidance
    value = fields.get(task.guidance_column)
    parts = value if isinstance(value, list | tuple) else [value]
    text = ", ".join(found for found in map(label_text, parts) if found)
    return formed(text, task.guidance_form, mode_of(task))


def formed(text: str, form: Form, mode: Mode) -> str:
    """Guidance as it is written for a form: keywords and situations are named as such where they stand in front."""
    chinese = is_cjk(text.strip())
    if not text.strip():
        return ""
    if form == "keywords":
        text = ("、" if chinese else ", ").join(one.strip() for one in re.split(r"[,，、;；\n]", text) if one.strip())
    if mode != "extension":
        return text.strip()
    names = {"keywords": ("Keywords: ", "关键词："), "situation": ("Situation: ", "情境：")}
    if form in names:
        text = names[form][chinese] + text.strip()
    return text if text[-1:].isspace() else text + "\n\n"


def front_of(task: Guided, guidance: str) -> str:
    """What stands in front of a row's own text and belongs to the row."""
    own = bool(task.guidance_column or task.guidance_in_row)
    return guidance if own and mode_of(task) == "extension" else ""


def replaced(task: Guided, fields: Mapping[str, object], guidance: str) -> tuple[Mapping[str, object], bool]:
    """The fields with the task's span given to the guidance, and whether there was something to replace."""
    if not task.guidance_replaces:
        return fields, False
    span = span_of(task.guidance_replaces)
    text = fields.get(span.field)
    found = span.of(text) if isinstance(text, str) and guidance else None
    if found is None or not isinstance(text, str):
        return fields, False
    return {**fields, span.field: text[: found[0]] + guidance + text[found[1] :]}, True
