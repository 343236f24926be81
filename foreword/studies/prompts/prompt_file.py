"""Variants from a file: one prompt a line, JSON Lines, or YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foreword.data.table import Table
from foreword.data.task.infer import make_task
from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.messages import Message
from foreword.settings.yaml import read_yaml
from foreword.studies.prompts.variant import Variant

_KEYS = ("name", "guidance", "template", "labels", "calibrate")


def read_variants(path: str, task: Task, table: Table) -> list[Variant]:
    """The variants in a file, each with what it does not say from ``task``.

    ``.jsonl``: an object a line; ``.yaml``: a list under ``variants``; anything else: one prompt a line, ``\\n`` in it
    being a new line. The keys are name, guidance, template, labels (label -> words) and calibrate.

    Raises:
        SettingsError: the file cannot be read, is empty, or says something that cannot be; with the place.
    """
    suffix = Path(path).suffix.lower()
    records = _yaml(path) if suffix in (".yaml", ".yml") else _lines(path, suffix in (".jsonl", ".json"))
    if not records:
        raise SettingsError("there are no variants in the file", where=path, hint="give one prompt a line")
    variants = [_variant(record, where, task, table) for record, where in records]
    names = [variant.name for variant in variants if variant.name]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError("two variants have the same name", where=path, received=name)
    return variants


def _lines(path: str, objects: bool) -> list[tuple[dict[str, Any], str]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            "the file of variants cannot be read", where=path, expected="a text file in UTF-8", received=error
        ) from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        if not objects:
            found.append(({"guidance": line.rstrip("\r").replace("\\n", "\n").replace("\\t", "\t")}, where))
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise SettingsError("not JSON", where=where, received=error, hint="give one object a line") from error
        found.append((_record(record, where), where))
    return found


def _yaml(path: str) -> list[tuple[dict[str, Any], str]]:
    given = read_yaml(path).get("variants")
    if given is None or not isinstance(given.value, tuple):
        raise SettingsError("a YAML file of variants has a list under the key `variants`", where=path)
    return [(_record(item.plain(), item.where), item.where) for item in given.value]


def _record(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"guidance": value}
    if not isinstance(value, dict) or not value:
        raise SettingsError("a variant is a text or has keys", where=where, expected=", ".join(_KEYS), received=value)
    for key, item in value.items():
        if key not in _KEYS:
            raise SettingsError(Message("unknown key {key!r}", key=key), where=where, expected=", ".join(_KEYS))
        types = {"labels": dict, "calibrate": bool}.get(key, str)
        if not isinstance(item, types):
            raise SettingsError(
                Message("{key} is not a {name}", key=key, name=types.__name__), where=where, received=item
            )
    return value


def _variant(record: dict[str, Any], where: str, task: Task, table: Table) -> Variant:
    labels = record.get("labels")
    if labels is not None and set(map(str, labels)) != set(task.labels):
        raise SettingsError(
            "a variant names other labels", where=where, expected=", ".join(task.labels), received=", ".join(labels)
        )
    if task.kind == "generation" and ("labels" in record or "calibrate" in record):
        raise SettingsError("a generation has no labels", where=where)
    words = {label: task.verbalizer[label].strip() for label in task.labels}
    if labels is not None:
        words |= {str(label): str(text) for label, text in labels.items()}
    try:
        made = make_task(
            table,
            template=record.get("template", task.template),
            guidance=record.get("guidance", task.guidance),
            labels=words or None,
            chat=task.chat,
            kind=task.kind,
        )
    except SettingsError as error:
        raise SettingsError(
            error.problem, where=where, expected=error.expected, received=error.received, hint=error.hint
        ) from error
    more = {"calibrate": bool(record.get("calibrate", False)), "origin": "file"}
    return Variant.of(made, str(record.get("name", "")), **more)
