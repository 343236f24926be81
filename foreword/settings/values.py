"""One value of a setting: where it came from, and how it becomes what its field's type asks for.

A value comes from a settings file, a flag, ``--set key=value`` or Python. All four pass through
:func:`convert`, so that a wrong type is refused in the same words everywhere, with its place.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from foreword.errors import SettingsError
from foreword.messages import Message

T = TypeVar("T")
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
# What stands between labels and words, as a Chinese or Japanese keyboard types it.
FULL_WIDTH = str.maketrans("，＝｜", ",=|")


@dataclass(frozen=True)
class Range:
    """What a number may be: at least ``least``, at most ``most``, greater than ``above``."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def holds(self, number: float) -> bool:
        """Whether the number lies in the range."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
        )

    def __str__(self) -> str:
        parts = [("at least", self.least), ("greater than", self.above), ("at most", self.most)]
        return " and ".join(f"{word} {bound:g}" for word, bound in parts if bound is not None)


@dataclass(frozen=True)
class Given:
    """A value as it was given.

    Args:
        value: None, bool, int, float, str, a tuple of Given, or a dict from str to Given.
        text: the characters that were written, so that a label ``01`` stays ``01``; None for a list or a map in a file.
        where: ``file:line``, a flag, or the name of an argument.
    """

    value: object
    text: str | None
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> Given:
        """Wrap a Python value; lists, tuples and mappings are wrapped all the way down."""
        if isinstance(value, Mapping):
            return cls({str(key): cls.of(item, where) for key, item in value.items()}, None, where)
        if isinstance(value, (list, tuple)):
            return cls(tuple(cls.of(item, where) for item in value), None, where)
        if isinstance(value, Path):
            return cls(str(value), str(value), where)
        return cls(value, str(value), where)

    def plain(self) -> Any:
        """The Python value: dicts, lists and scalars, without the places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        return self.value

    def wrong(self, key: str, expected: str) -> SettingsError:
        """The error for a value that does not fit."""
        received = repr(self.plain())
        return SettingsError(
            Message(
                "{key} cannot be {value}", key=key, value=received if len(received) < 80 else received[:77] + "..."
            ),
            where=self.where,
            expected=expected,
        )


def range_of(kind: Any) -> Range | None:
    """The bounds that an annotation such as ``Count | None`` sets; None where there are none."""
    if get_origin(kind) is Annotated:
        return next((one for one in get_args(kind) if isinstance(one, Range)), None)
    if get_origin(kind) in (Union, types.UnionType):
        return next((found for arg in get_args(kind) if (found := range_of(arg)) is not None), None)
    return None


def unknown_key(key: str, known: Sequence[str], where: str | None) -> SettingsError:
    """The error for a name that is not a setting, with the nearest one that is."""
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    hint = (
        Message("did you mean {value}?", value=near[0])
        if near
        else Message("the settings here are {names}", names=", ".join(sorted(known)))
    )
    return SettingsError(Message("no setting is called {key!r}", key=key), where=where, hint=hint)


def field_types(cls: type[Any]) -> dict[str, Any]:
    """Field name -> annotation of a settings dataclass, in the order of the fields."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


def build(cls: type[T], values: Mapping[str, Given] | Mapping[str, object], where: str = "settings") -> T:
    """Make a settings dataclass from a mapping, for instance a method's own settings.

    Args:
        cls: a dataclass whose fields are scalars, tuples, Literals or str -> str maps.
        values: Given or plain values by field name.
        where: the place that errors name for plain values.

    Raises:
        SettingsError: a key that ``cls`` does not have, or a value of the wrong type or range.
    """
    kinds = field_types(cls)
    ready: dict[str, object] = {}
    for key, value in values.items():
        given = value if isinstance(value, Given) else Given.of(value, where)
        if key not in kinds:
            raise unknown_key(key, list(kinds), given.where)
        ready[key] = convert(given, kinds[key], key)
    return cls(**ready)


def settle(settings: Any) -> None:
    """Check and convert every field of a frozen settings dataclass in place: for ``__post_init__``."""
    for name, kind in field_types(type(settings)).items():
        value = convert(Given.of(getattr(settings, name), f"{type(settings).__name__}.{name}"), kind, name)
        object.__setattr__(settings, name, value)


def convert(given: Given, kind: Any, key: str) -> Any:
    """The value as the annotation ``kind`` asks for it. Raises SettingsError when it does not fit."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _in_range(given, convert(given, args[0], key), args[1], key)
    if origin in (Union, types.UnionType):
        if given.value is None:
            return None
        if any(get_origin(arg) is Literal and given.text in get_args(arg) for arg in args):
            return given.text
        others = [arg for arg in args if arg is not type(None)]
        wanted = next((arg for arg in others if get_origin(arg) is not Literal), others[0])
        if len(others) > 1 and isinstance(given.value, str):
            # A number or a word: the command line gives both as text.
            number = _number(given.value)
            if isinstance(number, str):
                words = (word for arg in others if get_origin(arg) is Literal for word in get_args(arg))
                raise given.wrong(key, " or ".join(["a number", *words]))
            return convert(Given(number, given.text, given.where), wanted, key)
        return convert(given, wanted, key)
    if origin is Literal:
        if given.text not in args:
            raise given.wrong(key, " or ".join(map(str, args)))
        return given.text
    if origin is tuple:
        return _items(given, args[0], key)
    if origin is not None and issubclass(origin, Mapping):
        return _words(given, key)
    return _scalar(given, kind, key)


def _in_range(given: Given, value: Any, bounds: Range, key: str) -> Any:
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and not bounds.holds(number):
            raise given.wrong(key, str(bounds))
    return value


def _items(given: Given, kind: Any, key: str) -> tuple[Any, ...]:
    """A list; one scalar, or words between commas, is a list as well (``--set sweep=0.01,0.02``)."""
    if isinstance(given.value, tuple):
        return tuple(convert(item, kind, key) for item in given.value)
    if given.value is None or given.value == "":
        return ()
    if isinstance(given.value, dict) or given.text is None:
        raise given.wrong(key, "a list")
    parts = [part.strip() for part in given.text.split(",")]
    return tuple(convert(Given(_number(part), part, given.where), kind, key) for part in parts if part)


def _number(text: str) -> object:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _words(given: Given, key: str) -> Mapping[str, str]:
    """A map from label to words; also the text ``a=words,b=words`` or just ``a,b``."""
    if isinstance(given.value, dict):
        return types.MappingProxyType({name: _scalar(item, str, f"{key}.{name}") for name, item in given.value.items()})
    if isinstance(given.value, tuple):
        names = [_scalar(item, str, key) for item in given.value]
        pairs = [(name, name) for name in names]
    elif given.text:
        split = [part.partition("=") for part in given.text.translate(FULL_WIDTH).split(",")]
        pairs = [(name.strip(), words.strip() if equals else name.strip()) for name, equals, words in split]
    else:
        raise given.wrong(key, "label=words, label=words")
    names = [name for name, _ in pairs]
    if "" in names or len(set(names)) != len(names):
        raise given.wrong(key, "every label once: label=words,label=words")
    return types.MappingProxyType(dict(pairs))


def _scalar(given: Given, kind: Any, key: str) -> Any:
    value = given.value
    if kind is str and given.text is not None and isinstance(value, (str, int, float, bool, tuple, dict)):
        return given.text
    if kind is bool and isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        if kind is float:
            return float(value)
        if kind is int and value == int(value):
            return int(value)
    if kind not in _KINDS:
        raise TypeError(f"the setting {key} has a type that settings cannot have: {kind}")
    raise given.wrong(key, _KINDS[kind])


def shares(text: str) -> tuple[float, float]:
    """The shares that ``guidance_share`` names: at the first step and at the last.

    Raises:
        SettingsError: it is neither a number from 0 to 1 nor two of them with a colon between.
    """
    first, colon, last = text.partition(":")
    try:
        found = float(first), float(last if colon else first)
    except ValueError:
        found = math.nan, math.nan
    if not all(0 <= share <= 1 for share in found):
        raise SettingsError(
            "guidance_share is a share of the rows",
            where="guidance_share",
            expected="a number from 0 to 1, or two such as 0:1",
            received=text,
        )
    return found
