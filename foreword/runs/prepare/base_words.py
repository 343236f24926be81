"""The base that a name means: a hub id, a folder or file, or a word such as ``textgenrnn``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foreword.core.base.load import Base, load_base
from foreword.samples import textgenrnn
from foreword.settings.schema import FETCHED, ProgressCall

_FETCH = dict(zip(FETCHED, (textgenrnn,), strict=True))


def find_base(name: str | Path, *, progress: ProgressCall | None = None, **how: Any) -> Base:
    """``load_base``, which also fetches what a word means, once, into the cache; such a base is recorded by its word.

    Args:
        name: a folder of that name in the working directory comes before the word.
        how: as for ``load_base``.

    Raises:
        ForewordError: it cannot be fetched.
        BaseError, ResourceError, SettingsError: as ``load_base``.
    """
    word = str(name)
    if word not in FETCHED or Path(word).is_dir():
        return load_base(name, progress=progress, **how)
    return replace(load_base(_FETCH[word](progress), **{**how, "revision": None}), id=word)
