"""The catalogues: a folder a language, TOML files of ``"the English text" = "the text in that language"``.

The English text is a message's id, as in gettext. Plain TOML instead of gettext's files, because those must be compiled
before they can be read, and because the standard library reads TOML: whoever installs or edits a catalogue needs no
tool.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path


def _folders() -> Iterator[Path]:
    for place in import_module("foreword.messages").__path__:
        yield from (folder for folder in sorted(Path(place).iterdir()) if any(folder.glob("*.toml")))


@cache
def languages() -> tuple[str, ...]:
    """Languages with a catalogue; English needs none."""
    return tuple(dict.fromkeys(folder.name for folder in _folders()))


@cache
def _entries(language: str) -> dict[str, str]:
    """Every entry of a language's catalogue, whatever file and table it stands in."""
    entries: dict[str, str] = {}
    for folder in _folders():
        for file in sorted(folder.glob("*.toml")) if folder.name == language else ():
            for table in tomllib.loads(file.read_text(encoding="utf-8")).values():
                entries |= table
    return entries


def known_ids(language: str = "zh") -> frozenset[str]:
    """The ids that a language's catalogue has."""
    return frozenset(_entries(language))


def template(message_id: str, language: str) -> str | None:
    """What a message's text is made from in a language; None where the catalogue does not have it."""
    return _entries(language).get(message_id) if language in languages() else None
