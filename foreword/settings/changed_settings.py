"""In what two runs' settings differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(before: Mapping[str, Any], now: Mapping[str, Any], under: str = "") -> Iterator[str]:
    """Every setting that differs, by its full name."""
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        # Where the folder stands is no part of the run.
        if old == new or under + key == "output_dir":
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{under}{key}.")
        else:
            yield f"{under}{key}: {old} before, {new} now"
