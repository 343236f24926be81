"""Base models that can be picked: by a name of our list, never by a path from the browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreword.errors import SettingsError
from foreword.storage import cache_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class ListedBase:
    """A base: its name for people, what the command line calls it, and where it was found."""

    name: str
    spec: str
    source: str


def list_bases(folders: Sequence[Path]) -> list[ListedBase]:
    """The bases in the folders of the settings, in the hub's cache, and among the samples."""
    listed: dict[str, ListedBase] = {}
    for base in (*_in_folders(folders), *_in_cache(), *_samples()):
        listed.setdefault(base.name, base)
    return list(listed.values())


def base_spec(name: str, folders: Sequence[Path]) -> str:
    """What a picked or typed name is for the command line: a listed base, or a hub id.

    Raises:
        SettingsError: it is neither.
    """
    for base in list_bases(folders):
        if base.name == name:
            return base.spec
    if not _HUB_ID.fullmatch(name) or ".." in name:
        raise SettingsError("there is no such base", received=name, expected="one of the list, or a hub id")
    return name


def short_name(spec: str) -> str:
    """A base without its folders."""
    return spec.rstrip("/").rsplit("/", 1)[-1]


def _in_folders(folders: Sequence[Path]) -> Iterator[ListedBase]:
    for folder in folders:
        for path in (folder, *sorted(folder.glob("*"))):
            if (path / "config.json").is_file() or path.suffix.lower() == ".gguf":
                yield ListedBase(path.name, str(path.resolve()), "folder")


def _in_cache() -> Iterator[ListedBase]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    for path in sorted(cache.glob("models--*")):
        if any(path.glob("snapshots/*/config.json")):
            name = path.name.removeprefix("models--").replace("--", "/")
            yield ListedBase(name, name, "cache")


def _samples() -> Iterator[ListedBase]:
    for config in sorted(cache_folder("samples").glob("*/**/config.json")):
        folder = config.parent
        if any(folder.glob("*.safetensors")) and any(folder.glob("tokenizer*")):
            yield ListedBase(folder.name, str(folder), "samples")
