"""``hf://owner/name``: a .foreword file in a repository of the Hugging Face Hub, fetched once into the hub's own cache.

Nothing of a repository is run, and of its files only the .foreword file is fetched; it is read without being trusted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from foreword.errors import BaseError, SettingsError
from foreword.messages import Message

FILE, SCHEME = "model.foreword", "hf:"
_REPO = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}", re.ASCII)
# hf://owner/name, hf://owner/name/file.foreword, either with @revision; a path that was tidied has one slash.
_NAME = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(/(?P<file>[^@]+\.foreword))?(@(?P<revision>[\w./-]+))?", re.ASCII)


def endpoint() -> str | None:
    """The hub's address, where HF_ENDPOINT says another than the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def repository(name: str) -> str:
    """``owner/name``, or a refusal.

    Raises:
        SettingsError: not a repository's name.
    """
    if not _REPO.fullmatch(name) or ".." in name or "--" in name:
        raise SettingsError("this is no repository of the hub", expected="owner/name", received=name[:120])
    return name


def local_path(path: str | Path) -> str | Path:
    """``path`` itself, or where the file that ``hf://...`` names was fetched to.

    Raises:
        SettingsError: not such a name.
        BaseError: it cannot be fetched.
    """
    text = os.fspath(path)
    if not text.startswith(SCHEME):
        return path
    match = _NAME.fullmatch(text)
    file = FILE if match is None else match["file"] or FILE
    if match is None or ".." in file.split("/"):
        raise SettingsError(
            "this names no foreword on the hub", expected="hf://owner/name or hf://owner/name/FILE.foreword@REVISION",
            received=text[:200],
        )  # fmt: skip
    return _fetched(repository(match["repo"]), file, match["revision"])


def _fetched(repo: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        options: dict[str, Any] = {"revision": revision, "endpoint": endpoint()}
        return Path(hf_hub_download(repo, file, **options))
    except Exception as problem:  # the hub's client raises errors of several libraries
        raise BaseError(
            Message(
                "the file cannot be fetched from the hub: {name}: {why}",
                name=type(problem).__name__,
                why=next(iter(str(problem).splitlines()), "")[:300],
            ),
            where=f"hf://{repo}/{file}",
            hint="check the name, whether you may read it (hf auth login), and HF_HUB_OFFLINE",
        ) from problem
