"""Simulated studies beside the comparison: what their intervals keep."""

from __future__ import annotations

from typing import Any


def run(count: int) -> dict[str, Any]:
    """Nothing yet."""
    return {}
