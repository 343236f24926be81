"""A text of the program's, with what is needed to say it in another language.

A message is a ``str``, its English text, so that it goes wherever a text goes; its ``id`` and ``arguments`` go with it.
Nothing is ever read back from a finished sentence.

In a template ``{name}`` is an argument; ``{name!c}`` begins it with a capital, ``{name!r}`` shows it as Python writes
it, ``{name!p}`` is the ``s`` of a plural, or nothing where the argument is 1. An argument is a text, a number, another
message, or a list of those.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from foreword.messages.catalogue import known_ids, template

_COMMA = {"zh": "、"}  # between the items of a list, where it is not ", "


class _Formatter(string.Formatter):
    def __init__(self, language: str) -> None:
        self.language = language

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion == "p":
            return "" if value in (1, "1") else "s"
        if conversion == "r":
            return repr(value)
        if isinstance(value, (list, tuple)):
            value = _COMMA.get(self.language, ", ").join(said_in(item, self.language) for item in value)
        if isinstance(value, Exception) and value.args and isinstance(value.args[0], Message):
            value = value.args[0]
        if isinstance(value, Message):
            value = value.render(self.language)
        if conversion == "c":
            return value[:1].upper() + value[1:]
        return value


_ENGLISH = _Formatter("en")


class Message(str):
    """A text of the program's: English as a ``str``, any language of the catalogues by :meth:`render`.

    Args:
        message_id: the English template, which is the key of the catalogues.
        arguments: what stands in its places.
    """

    id: str
    arguments: Mapping[str, Any]

    def __new__(cls, message_id: str, /, **arguments: Any) -> Message:
        message = super().__new__(cls, _ENGLISH.format(message_id, **arguments))
        message.id, message.arguments = message_id, arguments
        return message

    def render(self, language: str) -> str:
        """The text in a language; in English where its catalogue does not have it."""
        other = template(self.id, language)
        if other is None:
            return str(self)
        return _Formatter(language).format(other, **self.arguments)

    def to_json(self) -> dict[str, Any]:
        """``{"id", "arguments"}``; arguments that are messages in the same form."""
        return {"id": self.id, "arguments": {name: stored(value) for name, value in self.arguments.items()}}

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.id, dict(self.arguments))

    def __deepcopy__(self, memo: Any) -> Message:
        return self


def _again(message_id: str, arguments: Mapping[str, Any]) -> Message:
    return Message(message_id, **arguments)


def said_in(text: object, language: str) -> str:
    """A text in a language: a message's own rendering, anything else as it is."""
    return text.render(language) if isinstance(text, Message) else str(text)


def stored(value: Any) -> Any:
    """A message as JSON that :func:`restored` gives back; other values as they are, lists item by item."""
    if isinstance(value, Message):
        return value.to_json()
    if isinstance(value, (list, tuple)):
        return [stored(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, Mapping)) else str(value)


def restored(value: Any) -> Any:
    """The inverse of :func:`stored`. An object that is no message of a catalogue's comes back as it is."""
    if isinstance(value, Mapping) and value.keys() == {"id", "arguments"} and value["id"] in known_ids():
        arguments = {str(name): restored(inner) for name, inner in value["arguments"].items()}
        try:
            return Message(value["id"], **arguments)
        except (IndexError, KeyError, TypeError, ValueError):
            return value
    if isinstance(value, (list, tuple)):
        return [restored(item) for item in value]
    return value


def index_of(value: object) -> dict[str, dict[str, Any]]:
    """English text -> id and arguments, of every message with arguments inside nested JSON values."""
    return {str(message): message.to_json() for message in _messages(value) if message.arguments}


def _messages(value: object) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _messages(inner)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for inner in value:
            yield from _messages(inner)
