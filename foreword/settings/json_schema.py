"""The JSON schema of a settings file, for editors that complete and check YAML as it is typed.

It is made from the dataclasses that hold the settings, so that it cannot say anything else than they do.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from foreword.settings.layers import RequestKeys
from foreword.settings.schema import FETCHED, SCRATCH, BaseSettings, TaskOptions, TrainRequest, TrainSettings
from foreword.settings.values import Range, field_types

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def settings_schema() -> dict[str, Any]:
    """The schema: the sections ``task``, ``method``, ``training`` and ``base``, and the same keys beside them."""
    task, training = _properties(TaskOptions), _properties(TrainSettings)
    base = {
        "anyOf": [
            {"type": "string"},
            _closed({"name": {"enum": [*SCRATCH, *FETCHED]}, **_properties(BaseSettings)}),
        ],
        "description": "The base model: hub id, folder or GGUF file, or lstm or gru with settings of their own.",
    }
    method = {
        "anyOf": [{"type": "string"}, {"type": "object", "properties": {"name": {"type": "string"}}}],
        "description": "The method by its name, or its name with settings of its own.",
    }
    sections = {"task": _closed(task), "training": _closed(training), "method": method, "base": base}
    return {
        "$schema": DIALECT,
        "title": "Settings of foreword",
        "type": "object",
        "properties": {**_properties(RequestKeys, field_docs(TrainRequest)), **training, **task, **sections},
    }


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _properties(cls: type[Any], docs: Mapping[str, str] | None = None) -> dict[str, Any]:
    docs = field_docs(cls) if docs is None else docs
    kinds = field_types(cls)
    return {field.name: _property(kinds[field.name], field, docs.get(field.name, "")) for field in fields(cls)}


def _property(kind: Any, field: Field[Any], description: str) -> dict[str, Any]:
    made = _type(kind)
    if description:
        made["description"] = description
    if field.default is not MISSING and field.default is not None:
        made["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return made


def _type(kind: Any) -> dict[str, Any]:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_type(args[0]), next((a for a in args[1:] if isinstance(a, Range)), None))
    if origin in (Union, types.UnionType):
        kinds = [{"type": "null"} if arg is type(None) else _type(arg) for arg in args]
        return {"anyOf": kinds}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"anyOf": [{"type": "array", "items": _type(args[0])}, _type(args[0])]}
    if origin is not None:  # a map from label to words, also as text
        return {"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}, {"type": "string"}]}
    return {"type": _SCALARS[kind]}


def _bounded(made: dict[str, Any], bounds: Range | None) -> dict[str, Any]:
    if bounds is None:
        return made
    if "anyOf" in made:
        return {"anyOf": [_bounded(part, bounds) for part in made["anyOf"]]}
    if made.get("type") == "array":
        return {**made, "items": _bounded(made["items"], bounds)}
    if made.get("type") in ("integer", "number"):
        named = {"minimum": bounds.least, "maximum": bounds.most, "exclusiveMinimum": bounds.above}
        return {**made, **{key: value for key, value in named.items() if value is not None}}
    return made


def field_docs(cls: type[Any]) -> dict[str, str]:
    """Field -> what its dataclass's docstring says of it, in one line."""
    text = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")[2]
    found: dict[str, str] = {}
    for line in text.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name, found[start.group(1)] = start.group(1), start.group(2).replace("``", "")
        elif found and line.startswith("     "):
            found[name] += " " + line.strip().replace("``", "")
        elif not line.strip():
            break
    return found
