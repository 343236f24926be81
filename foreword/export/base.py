"""What an export format is, and how a new file in this folder is found by itself.

A format is a frozen dataclass: its fields are its settings. ``write(exporting)`` gives the files to write, by name,
and refuses what the format cannot hold before anything is written.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from foreword.artifact.manifest import Manifest
from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.plugins import registered

SIDECAR, REQUEST = "foreword.json", "request.json"


@dataclass(frozen=True)
class Exporting:
    """What is exported.

    Args:
        name: what the foreword is called there: its file's name without the ending.
        value: the foreword.
        manifest: what its file says of it.
        base: the base that it belongs to, loaded.
        folder: where the files go; scripts name it.
        scratch: an empty folder for files that are too large to be held in memory; what is in it at the end is moved
            to ``folder`` first.
    """

    name: str
    value: Foreword
    manifest: Manifest
    base: Base
    folder: Path
    scratch: Path


@dataclass(frozen=True)
class ExportFormat(ABC):
    """Settings of one engine's format.

    Attributes:
        name: as ``--to`` takes it.
        title: the engine's own name.
        holds: the parts of a foreword that it takes: ``prefix``, ``prompt``, ``lora``, ``full``.
        architectures: of bases, as ``config.model_type`` has them; empty: any decoder that the other rules admit.
        admits: which bases, in words, where ``architectures`` is empty.
        proven: how equality with our own answers was shown.
        needs: what has to be installed where it runs.
        limits: what it cannot do.
        runner: file in ``engines`` that asks the engine; empty: it cannot be replayed.
        module: what the engine's Python imports, and ``package`` the name that pip installs it by.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    holds: ClassVar[tuple[str, ...]]
    admits: ClassVar[str] = "decoders with full attention"
    architectures: ClassVar[tuple[str, ...]] = ()
    proven: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    limits: ClassVar[str] = ""
    runner: ClassVar[str] = ""
    module: ClassVar[str] = ""
    package: ClassVar[str] = ""

    @abstractmethod
    def write(self, exporting: Exporting) -> dict[str, bytes]:
        """The files by their names below the folder, in the order in which they are written.

        Raises:
            SettingsError: the format cannot hold this foreword, or the engine would answer otherwise with it.
        """

    def job(self, exporting: Exporting) -> dict[str, Any]:
        """What ``runner`` is told besides the rows."""
        return {"base": local_base(exporting.base), "folder": str(exporting.folder.resolve())}

    def check(self, exporting: Exporting) -> str:
        """The part of the foreword that is exported; refuses what no setting could change.

        Raises:
            SettingsError: another part, or an architecture that is not proven.
        """
        part = part_of(exporting.value)
        if part not in self.holds:
            raise SettingsError(
                f"{self.title} cannot hold this foreword",
                where=f"--to {self.name}",
                expected=" or ".join(self.holds),
                received=part,
                hint="see docs/export.md for what each format holds",
            )
        architecture = exporting.base.model.config.model_type
        if self.architectures and architecture not in self.architectures:
            raise SettingsError(
                f"bases of this architecture are not proven on {self.title}",
                where=f"--to {self.name}",
                expected=", ".join(self.architectures),
                received=architecture,
            )
        return part


def local_base(base: Base) -> str:
    """Where other programs find the base: its folder (of a GGUF, the one that it was unpacked to), or its hub id."""
    return str(getattr(base.model.config, "_name_or_path", "") or base.id)


def part_of(value: Foreword) -> str:
    """What a foreword consists of, as :attr:`ExportFormat.holds` names it."""
    if value.weights:
        return "full"
    if value.slots is not None:
        return "soft slots"
    if value.head:
        return "a classification head"
    if value.adapters and value.sites:
        return "a prefix with low-rank changes"
    if value.adapters:
        return "lora"
    if value.prompt is not None:
        return "prompt"
    return "prefix" if value.sites else "text"


def task_files(manifest: Manifest, text: str, placeholders: list[int]) -> dict[str, bytes]:
    """``foreword.json``: the guidance text and the manifest with template, verbalizer and decoding, so that the export
    can be read back; ``request.json``: token ids of its first golden row behind the placeholders, and the answer."""
    files = {SIDECAR: as_json({"text": text, "manifest": manifest.model_dump(mode="json")})}
    if manifest.golden:
        row = manifest.golden[0]
        files[REQUEST] = as_json({"input": row.input, "ids": [*placeholders, *row.input_ids], "output": row.output})
    return files


def as_json(value: object) -> bytes:
    """Indented JSON with a line break at the end."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "backslashreplace")


@cache
def registry() -> Mapping[str, type[ExportFormat]]:
    """Every format of this folder, and of other packages' entry points ``foreword.export``, by its name."""
    return registered("foreword.export", ExportFormat)  # type: ignore[type-abstract]


def make_format(name: str, settings: Mapping[str, Any] | None = None) -> ExportFormat:
    """The format called ``name`` with ``settings``.

    Raises:
        SettingsError: no such format, no such setting, or a value of another type.
    """
    formats = registry()
    if name not in formats:
        raise SettingsError("there is no such format", where="--to", expected=", ".join(formats), received=name)
    kind = formats[name]
    known, hints = [field.name for field in fields(kind)], get_type_hints(kind, include_extras=True)
    values = {}
    for key, value in (settings or {}).items():
        if key not in known:
            raise SettingsError(
                f"format {name} has no setting {key!r}", where="--set", expected=", ".join(known) or "none"
            )
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as problem:
            raise SettingsError(
                f"format {name}: {key} cannot be that",
                where="--set",
                expected=problem.errors()[0]["msg"],
                received=repr(value),
            ) from problem
    return kind(**values)
