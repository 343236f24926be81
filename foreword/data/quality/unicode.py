"""Normalised text for comparing rows, and which script a text is in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_NOISE = re.compile(r"[\W_]+")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af]")
_LETTER = re.compile(r"[^\W\d_]")


def normalise(text: str) -> str:
    """Case, width (NFKC), punctuation and white space made equal. Text of punctuation only stays as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOISE.sub(" ", folded).strip() or folded.strip()


def is_cjk(text: str) -> bool:
    """Whether a text starts with a Chinese, Japanese or Korean character, before which no space is written."""
    return bool(_HAN.match(text.lstrip()))


def cjk_share(texts: Iterable[str]) -> float:
    """The share of CJK characters among the letters of some texts, 0 to 1."""
    sample = "".join(text[:500] for text in texts)
    letters = len(_LETTER.findall(sample))
    return len(_HAN.findall(sample)) / letters if letters else 0.0
