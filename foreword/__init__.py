"""Teach a frozen language model a task with a few learned tokens in front of it.

The names here load what they need when they are first used: ``import foreword`` alone is fast and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foreword.artifact.store import load, save
    from foreword.core.base import load_base
    from foreword.core.inject import injected
    from foreword.core.value import Foreword
    from foreword.data.read import read
    from foreword.run.prepare import check
    from foreword.run.train import train
    from foreword.run.use import evaluate, predict
    from foreword.training.attach import attach

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

_HOME = {
    "Foreword": "foreword.core.value",
    "attach": "foreword.training.attach",
    "check": "foreword.run.prepare",
    "evaluate": "foreword.run.use",
    "injected": "foreword.core.inject",
    "load": "foreword.artifact.store",
    "load_base": "foreword.core.base",
    "predict": "foreword.run.use",
    "read": "foreword.data.read",
    "save": "foreword.artifact.store",
    "train": "foreword.run.train",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("foreword")
    if name not in _HOME:
        raise AttributeError(f"module 'foreword' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
