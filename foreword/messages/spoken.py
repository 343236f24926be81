"""Which language the command line speaks: ``FOREWORD_LANG``, or that of the locale; English where neither says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from foreword.messages.catalogue import languages, template
from foreword.messages.message import Message

ENGLISH = "en"
_current = ENGLISH  # of the process: work in other threads reports in it, too
missing: set[str] = set()
"""Texts that were said in English for want of a translation; a test holds that there are none."""


def language_of(environ: Mapping[str, str]) -> str:
    """The language that an environment asks for: ``zh``, or ``en``.

    >>> language_of({"LANG": "zh_CN.UTF-8"}), language_of({"LANG": "zh_CN.UTF-8", "FOREWORD_LANG": "en"})
    ('zh', 'en')
    """
    for name in ("FOREWORD_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        asked = environ.get(name, "").replace("-", "_").split(".")[0].split("_")[0].lower()
        if asked:
            return asked if asked in languages() else ENGLISH
    return ENGLISH


@contextmanager
def speaking(language: str | None = None) -> Iterator[None]:
    """Inside the block :func:`say` answers in ``language``; None takes it from the environment."""
    global _current
    before, _current = _current, language_of(os.environ) if language is None else language
    try:
        yield
    finally:
        _current = before


def language() -> str:
    """The language that is spoken now."""
    return _current


def say(text: object) -> str:
    """A text of the program's in the language that is spoken; as it is where that has no such text."""
    if _current == ENGLISH:
        return str(text)
    other = template(text.id if isinstance(text, Message) else str(text), _current)
    if other is None:
        missing.add(text.id if isinstance(text, Message) else str(text))
        return str(text)
    return text.render(_current) if isinstance(text, Message) else other


def say_if_known(text: object) -> str:
    """The same for a text that may as well be the user's: it is missed nowhere."""
    known = isinstance(text, Message) or template(str(text), _current) is not None
    return say(text) if known else str(text)
