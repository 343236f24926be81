"""The Jinja2 environment of templates: a few filters, no way to Python, and nothing that grows without bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from foreword.data.row import what_it_is
from foreword.messages import Message

MAX_OUTPUT = 1024 * 1024
"""Longest rendered row, in characters."""
_MAX_RANGE = 1000
_FILTERS = (
    "abs capitalize count d default first float int last length list lower reverse round sort string title trim "
    "truncate unique upper wordcount tojson"
).split()
_METHODS = frozenset(
    "lower upper title capitalize strip lstrip rstrip startswith endswith split splitlines count find isdigit get "
    "items keys values".split()
)


class SandboxEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with fewer attributes and bounded arithmetic."""

    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only harmless methods; fields are reached by key, not by attribute."""
        return attr in _METHODS and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic whose result could be huge is for small numbers only; text is joined with ``~``."""
        numbers = all(isinstance(one, int | float) and abs(one) < 1e9 for one in (left, right))
        if operator == "+" and not numbers:
            return _small(super().call_binop(context, operator, left, right))
        if not numbers or (operator == "**" and abs(right) > 16):
            raise SecurityError(Message("{operator!r} is only for small numbers in a template", operator=operator))
        return super().call_binop(context, operator, left, right)


def _small(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > MAX_OUTPUT:
        raise SecurityError(Message("a value of more than {MAX_OUTPUT:,} characters", MAX_OUTPUT=MAX_OUTPUT))
    return value


def _replace(text: object, old: str, new: str) -> str:
    words = str(text)
    if old == "" or words.count(old) * len(new) > MAX_OUTPUT:
        raise SecurityError("replace would make a very long text")
    return words.replace(old, new)


def _join(values: Iterable[object], separator: str = "") -> str:
    parts = [str(_shown(value)) for value in values]
    if len(parts) * len(separator) + sum(map(len, parts)) > MAX_OUTPUT:
        raise SecurityError("join would make a very long text")
    return separator.join(parts)


def _range(*bounds: int) -> range:
    result = range(*bounds)
    if len(result) > _MAX_RANGE:
        raise SecurityError(Message("range is for at most {MAX_RANGE:,} numbers", MAX_RANGE=_MAX_RANGE))
    return result


def _shown(value: object) -> object:
    """Booleans are written as in JSON, like the labels; what is no text is refused, never spelled as Python does."""
    if isinstance(value, Mapping | list | tuple | bytes | set | frozenset):
        raise TypeError(Message("a value is {what_it_is}, and no text", what_it_is=what_it_is(value)))
    return ("true" if value else "false") if isinstance(value, bool) else value


def environment() -> SandboxEnvironment:
    """An environment with the allowed filters only."""
    env = SandboxEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_shown)
    kept: dict[str, Callable[..., Any]] = {name: env.filters[name] for name in _FILTERS}
    env.filters.clear()
    env.filters.update(kept, replace=_replace, join=_join)
    env.globals.clear()
    env.globals["range"] = _range
    return env
