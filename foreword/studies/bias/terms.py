"""Lists of words that belong together, and rows rewritten with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from foreword.data.quality.unicode import is_cjk
from foreword.errors import SettingsError
from foreword.settings.yaml import read_yaml

LANGUAGES = ("en", "zh")
"""Languages whose lists are shipped."""


@dataclass(frozen=True)
class Axis:
    """One thing that should not matter, such as gender.

    Args:
        name: for people.
        groups: group -> words; words at the same place of each group correspond to each other.
        exchange: two groups are swapped with each other; else every group's words are written as each other group's.
        more: word -> word, for words without a partner of their own in the other direction.
        excepted: longer words in which a listed word does not count.
    """

    name: str
    groups: Mapping[str, tuple[str, ...]]
    exchange: bool = False
    more: Mapping[str, str] = field(default_factory=dict)
    excepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(words) for words in self.groups.values()}
        if len(self.groups) < 2 or len(lengths) != 1 or 0 in lengths:
            raise SettingsError(
                f"the groups of {self.name!r} do not correspond",
                expected="two groups or more, each with the same number of words",
                received=", ".join(f"{name}: {len(words)}" for name, words in self.groups.items()),
            )
        if self.exchange and len(self.groups) != 2:
            raise SettingsError(f"{self.name!r} has {len(self.groups)} groups to exchange", expected="two")

    def versions(self, text: str) -> dict[str, str]:
        """The text about the other groups, by the group that it is then about; {} where it names none.

        An exchange has one version, under the group that it names most; the first where both are named as often.
        """
        if self.exchange:
            one, other = self.groups
            wanted = {**_pairs(self.groups[other], self.groups[one]), **self.more}
            wanted = {**wanted, **_pairs(self.groups[one], self.groups[other])}
            made = self._rewrite(text, wanted)
            named = {group: self._count(text, group) for group in self.groups}
            return {} if made == text else {other if named[one] > named[other] else one: made}
        found = {}
        for name, words in self.groups.items():
            wanted = {}
            for group, theirs in self.groups.items():
                if group != name:
                    wanted |= _pairs(theirs, words)
            made = self._rewrite(text, wanted)
            if made != text:
                found[name] = made
        return found

    def _count(self, text: str, group: str) -> int:
        """How many words of a group (and of ``more``, which partner it) stand in a text."""
        own = {word.lower() for word in self.groups[group]}
        own |= {word for word, partner in self.more.items() if partner.lower() not in own}
        matched: list[str] = []
        self._rewrite(text, dict.fromkeys(own, ""), matched)
        return len(matched)

    def _rewrite(self, text: str, wanted: Mapping[str, str], matched: list[str] | None = None) -> str:
        """Every listed word replaced in one pass, its capitals kept; ``matched`` is told which."""
        words = sorted({*wanted, *(one.lower() for one in self.excepted)}, key=len, reverse=True)
        parts = [re.escape(w) if is_cjk(w) else rf"(?<![^\W_]){re.escape(w)}(?![^\W_])" for w in words]

        def other(match: re.Match[str]) -> str:
            found = match.group(0)
            new = wanted.get(found.lower())
            if matched is not None and new is not None:
                matched.append(found)
            return found if new is None else _like(found, new)

        return re.sub("|".join(parts), other, text, flags=re.IGNORECASE)


def _pairs(old: Iterable[str], new: Iterable[str]) -> dict[str, str]:
    """Word -> word, the first partner of a word that stands twice."""
    found: dict[str, str] = {}
    for one, other in zip(old, new, strict=True):
        found.setdefault(one.lower(), other)
    return found


def _like(found: str, new: str) -> str:
    """A word with the capitals of the one that it replaces."""
    if len(found) > 1 and found.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if found[:1].isupper() else new


def shipped(languages: Iterable[str] = LANGUAGES) -> list[Axis]:
    """The axes of the lists that come with the package."""
    folder = files("foreword.studies.bias") / "data"
    return [axis for name in languages for axis in read_axes(Path(str(folder / f"{name}.yaml")))]


def read_axes(path: str | Path) -> list[Axis]:
    """The axes of a YAML file: ``axes: NAME: {words: exchange|replace, groups: {GROUP: [words]}, more, except}``.

    Raises:
        SettingsError: the file cannot be read or does not say that; with the line.
    """
    given = read_yaml(path)
    axes = given.get("axes")
    if axes is None or not isinstance(axes.value, dict) or not axes.value:
        raise SettingsError("a file of lists has the key `axes`", where=str(path), hint="see docs/bias.md")
    out = []
    for name, item in axes.value.items():
        out.append(_axis(name, item.plain(), item.where))
    return out


def _axis(name: str, value: Any, where: str) -> Axis:
    form = {"words": str, "groups": dict, "more": dict, "except": list}
    fits = isinstance(value, dict) and all(isinstance(value.get(key, kind()), kind) for key, kind in form.items())
    if not fits or set(value) - form.keys() or "groups" not in value:
        raise SettingsError(f"{name!r} is no axis", where=where, expected="groups, and words, more or except")
    if value.get("words", "replace") not in ("exchange", "replace"):
        raise SettingsError("words are exchanged or replaced", where=where, received=value["words"])
    groups = value["groups"]
    if not all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in groups.values()):
        raise SettingsError(f"a group of {name!r} is not a list of words", where=where)
    try:
        return Axis(
            name,
            {group: tuple(words) for group, words in groups.items()},
            value.get("words", "replace") == "exchange",
            dict(value.get("more", {})),
            tuple(value.get("except", ())),
        )
    except SettingsError as error:
        raise SettingsError(error.problem, where=where, expected=error.expected, received=error.received) from error
