"""``--require "prefix > prompt + 2"``: a result that has to be met, read without evaluating anything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from foreword.errors import SettingsError
from foreword.messages import Message

_FORM = re.compile(
    r"\s*(?P<left>[A-Za-z_]\w*)\s*(?P<sign>>=?)\s*"
    r"(?:(?P<right>[A-Za-z_]\w*)\s*(?P<offset>[+-]\s*\d+(?:\.\d+)?)?|(?P<value>\d+(?:\.\d+)?))\s*"
)


@dataclass(frozen=True)
class Gate:
    """System ``left`` is to be above ``right`` by ``offset`` points, or above ``offset`` where there is no right.

    Args:
        text: as it was written.
        strict: ``>`` and not ``>=``.
    """

    text: str
    left: str
    right: str | None
    offset: float
    strict: bool

    def met(self, value: float) -> bool:
        """Whether a difference (or a figure) in points meets it."""
        return value > self.offset if self.strict else value >= self.offset


def parse(text: str, systems: Collection[str]) -> Gate:
    """Read a requirement.

    Raises:
        SettingsError: it has another form, or names a system that the comparison does not have.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise SettingsError(
            "not a requirement",
            where="--require",
            expected="SYSTEM > SYSTEM + POINTS, or SYSTEM > POINTS",
            received=text,
            hint="for example: --require 'prefix > prompt + 2'",
        )
    for name in (found["left"], found["right"]):
        if name is not None and name not in systems:
            near = difflib.get_close_matches(name, systems, 1)
            raise SettingsError(
                Message("the comparison has no system {name!r}", name=name),
                where="--require",
                expected=", ".join(systems),
                hint=Message("did you mean {value!r}?", value=near[0]) if near else None,
            )
    offset = float((found["offset"] or found["value"] or "0").replace(" ", ""))
    return Gate(text.strip(), found["left"], found["right"], offset, found["sign"] == ">")
