"""What can be added by a file in a folder of this package, or by an entry point of another one.

    [project.entry-points."foreword.methods"]
    mine = "my_package.my_method:MyMethod"

An entry point names a class. It is loaded when the classes of its group are first asked for; a package that cannot be
loaded is an error that names it, not a method that is silently missing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from foreword.errors import SettingsError
from foreword.messages import Message

T = TypeVar("T")


def registered(group: str, parent: type[T], folder: str = "") -> Mapping[str, type[T]]:
    """Every class of a kind by its ``name``, in the order of the names.

    Args:
        group: of the entry points, such as ``foreword.methods``.
        parent: what every class is a subclass of; those without a ``name`` of their own are not counted.
        folder: the package in which each file may define some; empty: ``group``.

    Raises:
        SettingsError: an entry point cannot be loaded, is of another kind, or takes a name that is taken.
    """
    found = {kind.__dict__["name"]: kind for kind in _of_folder(folder or group, parent)}
    for point in entry_points(group=group):
        kind = _loaded(point, parent)
        name = kind.__dict__["name"]
        if found.setdefault(name, kind) is not kind:
            raise _wrong(point, f"the name {name!r} is taken", f"{found[name].__module__}.{found[name].__name__}")
    return dict(sorted(found.items()))


def _of_folder(folder: str, parent: type[T]) -> Iterator[type[T]]:
    package = importlib.import_module(folder)
    files = [f"{folder}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in files:
        importlib.import_module(name)

    def below(kind: type[T]) -> Iterator[type[T]]:
        for child in kind.__subclasses__():
            if child.__module__ in files and "name" in child.__dict__:
                yield child
            yield from below(child)

    return below(parent)


def _loaded(point: EntryPoint, parent: type[T]) -> type[T]:
    try:
        kind: Any = point.load()
    except Exception as problem:
        raise _wrong(point, f"it cannot be loaded ({type(problem).__name__}: {problem})", point.value) from problem
    if not isinstance(kind, type) or not issubclass(kind, parent) or "name" not in kind.__dict__:
        raise _wrong(point, f"it is no {parent.__name__} with a name", repr(kind))
    return kind


def _wrong(point: EntryPoint, why: str, received: object) -> SettingsError:
    package = point.dist.name if point.dist is not None else point.value.partition(":")[0]
    return SettingsError(
        Message(
            "{package} adds {name!r} to {group}: {why}", package=package, name=point.name, group=point.group, why=why
        ),
        where=f"{point.group}:{point.name}",
        received=received,
        hint=Message("upgrade or uninstall {package}", package=package),
    )
