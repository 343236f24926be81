"""The text of an answer as it is written: whole characters only, nothing of a stop text, nothing taken back."""

from __future__ import annotations

from collections.abc import Sequence

from foreword.data.tokens.tokenize import Tokenizer

# How many tokens may make one character; an end that is still half a character after so many is none.
_HALF = 8


class TextStream:
    """Turns token ids into pieces of text whose sum is the answer.

    Args:
        stop: texts at which the answer ends; they are not part of it.
        strip: leave out white space around the answer, as ``predict`` does.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), strip: bool = False) -> None:
        self._tokenizer, self._stop, self._strip = tokenizer, tuple(stop), strip
        self._ids: list[int] = []
        self._read = self._begin = 0
        self._text = ""
        self._sent = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """The answer up to now."""
        return self._text[: self._sent]

    def push(self, token: int) -> str:
        """One more token; what of the text is certain now."""
        self._ids.append(token)
        before = self._decode(self._ids[self._begin : self._read])
        now = self._decode(self._ids[self._begin :])
        if now.endswith("\ufffd") and len(self._ids) - self._read < _HALF:
            return ""
        self._begin, self._read = self._read, len(self._ids)
        return self._add(now[len(before) :])

    def end(self) -> str:
        """No more tokens; what is left of the text."""
        rest = self._decode(self._ids[self._begin :])[len(self._decode(self._ids[self._begin : self._read])) :]
        piece = self._add(rest.rstrip("\ufffd")) if rest and not self.stopped else ""
        text = self._text.rstrip() if self._strip else self._text
        last, self._sent = text[self._sent :], max(self._sent, len(text))
        return piece + last

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))) if ids else ""

    def _add(self, piece: str) -> str:
        if self._strip and not self._text:
            piece = piece.lstrip()
        self._text += piece
        cuts = [place for stop in self._stop if (place := self._text.find(stop, max(0, self._sent - len(stop)))) >= 0]
        if cuts:
            self.stopped, self._text = True, self._text[: min(cuts)]
        certain = len(self._text) if self.stopped else len(self._text) - self._held()
        if self._strip:
            certain = min(certain, len(self._text[:certain].rstrip()))
        sent, self._sent = self._sent, max(self._sent, certain)
        return self._text[sent : self._sent]

    def _held(self) -> int:
        """How much of the end may be the beginning of a stop text."""
        longest = 0
        for stop in self._stop:
            sizes = range(min(len(stop) - 1, len(self._text)), longest, -1)
            longest = next((size for size in sizes if self._text.endswith(stop[:size])), longest)
        return longest
