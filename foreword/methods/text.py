"""A text prompt: guidance in front, as tokens. Nothing is trained; it is what the others must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from foreword.core.inject.value import Foreword
from foreword.methods.base import Method, Start, Writer


class TextWriter(Writer):
    """Always the same text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def write(self) -> Foreword:
        return Foreword(text=self.text)


@dataclass(frozen=True)
class Text(Method):
    """The guidance itself, as a foreword."""

    name: ClassVar[str] = "text"
    learning_rates: ClassVar[tuple[float, ...]] = ()
    choose: ClassVar[str] = (
        "there is nothing to train on yet, or the prompt is good enough: every other method is measured against it"
    )
    limits: ClassVar[str] = (
        "learns nothing; its tokens are read again in every pass without a cache; cannot have a classification head"
    )

    def writer(self, start: Start) -> Writer:
        return TextWriter(start.text)
