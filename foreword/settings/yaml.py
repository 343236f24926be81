"""YAML in and out. Values keep the line they stand on and the characters they were written with.

The nodes are read, not the objects: a tag can never construct anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.values import Given

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

TAGS = "tag:yaml.org,2002:"


def read_yaml(path: str | Path) -> dict[str, Given]:
    """Read a settings file; every value knows its line. Raises SettingsError with the line of what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "the settings file cannot be read", where=str(path), expected="a YAML file in UTF-8", received=error
        ) from error
    given = _Reader(str(path), lines=True).read(text)
    if given.value is None:
        return {}
    if not isinstance(given.value, dict):
        raise SettingsError("a settings file is a map of keys to values", where=given.where, received=given.text)
    return given.value


def read_value(text: str, where: str) -> Given:
    """Read one value, as it follows ``--set key=``. Raises SettingsError when it is not YAML."""
    return _Reader(where, lines=False).read(text)


def to_yaml(values: Mapping[str, object]) -> str:
    """Settings as the text of a settings file that reads back to the same values."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml, out = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(values), out)
    return out.getvalue()


class _Reader:
    """Walks the nodes of one YAML text."""

    def __init__(self, where: str, lines: bool) -> None:
        self.where = where
        self.lines = lines
        self.visited: set[int] = set()

    def read(self, text: str) -> Given:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        try:
            node = YAML(typ="rt").compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self.where if mark is None or not self.lines else f"{self.where}:{mark.line + 1}"
            hint = (
                'put a value with a colon in quotes: layers: "15:"' if "mapping values" in str(error.problem) else None
            )
            raise SettingsError(
                Message("this is not YAML: {value}", value=error.problem or error.context), where=place, hint=hint
            ) from error
        except (YAMLError, ValueError) as error:
            raise SettingsError(Message("this is not YAML: {error}", error=error), where=self.where) from error
        return Given(None, "", self.where) if node is None else self.given(node)

    def place(self, node: Node) -> str:
        return f"{self.where}:{node.start_mark.line + 1}" if self.lines else self.where

    def given(self, node: Node) -> Given:
        place, tag = self.place(node), str(node.tag)
        if tag in (TAGS + "map", TAGS + "seq"):
            if id(node) in self.visited:  # also what keeps a recursive or exploding alias from being followed
                raise SettingsError("an alias of a list or a map is not allowed here", where=place, hint="write it out")
            self.visited.add(id(node))
            if tag.endswith("map"):
                return Given(self.pairs(node), None, place)
            return Given(tuple(self.given(item) for item in node.value), None, place)
        if isinstance(node.value, str) and tag.removeprefix(TAGS) in (
            "str",
            "int",
            "float",
            "bool",
            "null",
            "timestamp",
        ):
            return Given(_scalar(tag.removeprefix(TAGS), node.value), node.value, place)
        raise SettingsError(Message("a value of the type {tag} is not allowed here", tag=tag), where=place)

    def pairs(self, node: Node) -> dict[str, Given]:
        found: dict[str, Given] = {}
        for key, item in node.value:
            if not isinstance(key.value, str):
                raise SettingsError("a key is a word", where=self.place(key))
            if key.value in found:
                raise SettingsError(
                    Message("{value} is given twice", value=key.value),
                    where=self.place(key),
                    hint="keep one of the two",
                )
            # the key's line, not the value's: a list or a map starts below its key
            given = self.given(item)
            found[key.value] = Given(given.value, given.text, self.place(key))
        return found


def _scalar(kind: str, text: str) -> object:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    digits = text.replace("_", "")
    if kind == "int":
        prefixed = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
        return int(digits, 0 if prefixed else 10)
    if kind == "float":
        return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
