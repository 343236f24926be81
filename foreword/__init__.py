"""Teach a frozen language model a task with a few learned tokens in front of it.

The names here load what they need when they are first used: ``import foreword`` alone is fast and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foreword.api import (
        Foreword,
        attach,
        check,
        evaluate,
        injected,
        load,
        load_base,
        predict,
        read,
        save,
        train,
    )

__all__ = [
    "Foreword",
    "attach",
    "check",
    "evaluate",
    "injected",
    "load",
    "load_base",
    "predict",
    "read",
    "save",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("foreword")
    if name not in __all__:
        raise AttributeError(f"module 'foreword' has no attribute {name!r}")
    value: object = getattr(import_module("foreword.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
