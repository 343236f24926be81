"""What a report says in its own words, in Chinese: fixed words, and sentences with places for names and figures.

A sentence that is not listed stays English on the page. A place is written ``{name}``; what stands there is looked up
in turn, so a system's title inside a sentence is said in Chinese, too. The places in ``_NUMBERS`` hold figures only,
``{word}`` has no space, ``{quoted}`` and ``{other}`` stand in quotation marks and are left as they are.
"""

from __future__ import annotations

import re
from functools import cache

from foreword.evaluation.report.chinese_sentences import SENTENCES
from foreword.evaluation.report.chinese_words import WORDS

_NUMBERS = {"n", "m", "k", "low", "high", "level", "p"}
_QUOTED = r"(?:'.*'|\".*\")"
_AMOUNT = r"[^.]*(?:\.\d[^.]*)*"  # a figure with its unit: no full stop of a sentence
_OTHER = {"s": "s?", "t": "s?", "word": r"\S+", "quoted": _QUOTED, "other": _QUOTED, "gain": _AMOUNT, "more": _AMOUNT}
_PLACE = re.compile(r"\{(\w+)\}")


def chinese(text: str) -> str | None:
    """The text in Chinese; None where it is not ours to say."""
    found = WORDS.get(text) or WORDS.get(text[:1].lower() + text[1:])
    if found is not None:
        return found
    for form, said in _forms():
        match = form.fullmatch(text)
        if match:
            parts = {name: _part(part) for name, part in match.groupdict().items()}
            return said.format(**parts)
    return None


def _part(text: str) -> str:
    whole = chinese(text)
    if whole is not None or ", " not in text or re.fullmatch(_QUOTED, text, re.S):
        return whole or text
    return "、".join(chinese(one) or one for one in text.split(", "))


@cache
def _forms() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of the sentences, the longest first: it says most about what it fits."""
    return tuple((_form(text), SENTENCES[text]) for text in sorted(SENTENCES, key=len, reverse=True))


def _form(text: str) -> re.Pattern[str]:
    parts = _PLACE.split(text)
    out = [re.escape(parts[0])]
    for name, after in zip(parts[1::2], parts[2::2], strict=True):
        what = r"[-+<>]?\d[\d.,]*(?:e[-+]\d+)?%?" if name in _NUMBERS else _OTHER.get(name, ".+?")
        out.append(f"(?P<{name}>{what}){re.escape(after)}")
    return re.compile("".join(out), re.S)
