"""Which of a report's texts the program says in its own words, and those words in another language.

Texts of rows, labels and settings are never looked up: whoever draws a block says which of its texts are the program's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreword.messages import Message, known_ids, restored


class Translator:
    """Makes messages of the program's texts.

    Args:
        index: English text -> id and arguments, a report's ``messages``: what came back from a file.

    Attributes:
        missing: texts of the program's that no catalogue has; a test holds that there are none.
    """

    def __init__(self, index: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.index = index or {}
        self.missing: set[str] = set()

    def ours(self, text: str) -> str:
        """The text as a message; as it is where it cannot be said in another language."""
        if isinstance(text, Message):
            message: object = text
        elif text in self.index:
            message = restored(self.index[text])
        else:
            message = Message(text) if text in known_ids() else text
        if isinstance(message, Message) and message.id in known_ids():
            return message
        if any(map(str.isalpha, text)):
            self.missing.add(text)
        return text

    def known(self, text: str) -> bool:
        """Whether the text can be said in the languages of the catalogues, or holds nothing to be said."""
        self.ours(text)
        return text not in self.missing
