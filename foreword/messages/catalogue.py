"""The catalogues: a folder a language, TOML files of ``"the English text" = "the text in that language"``.

The English text is a message's id, as in gettext. Plain TOML instead of gettext's files, because those must be compiled
before they can be read, and because the standard library reads TOML: whoever installs or edits a catalogue needs no
tool.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

LANGUAGES = ("zh",)
"""Languages with a catalogue; English needs none."""


@cache
def _entries(language: str) -> dict[str, str]:
    """Every entry of a language's catalogue, whatever file and table it stands in."""
    entries: dict[str, str] = {}
    for file in sorted(resources.files("foreword.messages").joinpath(language).iterdir(), key=lambda one: one.name):
        if not file.name.endswith(".toml"):
            continue
        for table in tomllib.loads(file.read_text(encoding="utf-8")).values():
            entries |= table
    return entries


def known_ids(language: str = "zh") -> frozenset[str]:
    """The ids that a language's catalogue has."""
    return frozenset(_entries(language))


def template(message_id: str, language: str) -> str | None:
    """What a message's text is made from in a language; None where the catalogue does not have it."""
    return _entries(language).get(message_id) if language in LANGUAGES else None
