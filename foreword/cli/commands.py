"""Which commands there are: every ``cli/*_command.py`` is one, imported when it is called or listed.

A file of that name needs ``command``, a function whose parameters are the options. ``GROUP`` says under which heading
the command stands, ``EXAMPLE`` is shown at the end of its help.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType

from foreword import cli
from foreword.cli.options import expanded

GROUPS = ("Data", "Train", "Compare", "Use", "Share", "Other")
_END = "_command"


class Commands(Mapping[str, Callable[..., int]]):
    """Name -> function of the command; a file is imported when its function is asked for."""

    def __getitem__(self, name: str) -> Callable[..., int]:
        if name not in list(self):
            raise KeyError(name)
        return expanded(module(name).command)

    def __iter__(self) -> Iterator[str]:
        for found in pkgutil.iter_modules(cli.__path__):
            if found.name.endswith(_END):
                yield found.name.removesuffix(_END).replace("_", "-")

    def __len__(self) -> int:
        return len(list(iter(self)))


COMMANDS = Commands()


def module(name: str) -> ModuleType:
    """The file of a command."""
    return import_module(f"foreword.cli.{name.replace('-', '_')}{_END}")


def group(name: str) -> str:
    """The heading that a command stands under."""
    return str(getattr(module(name), "GROUP", GROUPS[-1]))


def example(name: str) -> str:
    """What is shown at the end of the command's help; empty where its file has none."""
    return str(getattr(module(name), "EXAMPLE", ""))
