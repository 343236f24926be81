"""Methods and heads of other packages, by entry points; one that does not load is named."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar

import pytest

from foreword.errors import SettingsError
from foreword.methods import base as methods
from foreword.methods.prompt import Prompt
from foreword.testing import check_method
from foreword.training.heads import base as heads
from foreword.training.heads.pooled import Classify

Offer = Callable[..., None]


@dataclass(frozen=True)
class Mine(Prompt):
    name: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Scaled(Classify):
    name: ClassVar[str] = "scaled"


@dataclass(frozen=True)
class Impostor(Prompt):
    name: ClassVar[str] = "prefix"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """Pretend that a package was installed with these entry points of a group."""
    package: Any = ModuleType("other_package")
    package.Mine, package.Scaled, package.Impostor = Mine, Scaled, Impostor
    monkeypatch.setitem(sys.modules, "other_package", package)

    def install(group: str, **values: str) -> None:
        points = [EntryPoint(name, value, group) for name, value in values.items()]
        monkeypatch.setattr("foreword.plugins.entry_points", lambda group: [p for p in points if p.group == group])
        methods.registry.cache_clear()
        heads.registry.cache_clear()

    yield install
    monkeypatch.undo()
    methods.registry.cache_clear()
    heads.registry.cache_clear()


def test_a_method_of_another_package_is_made_by_its_name_and_keeps_the_contracts(offer: Offer) -> None:
    offer("foreword.methods", mine="other_package:Mine")
    assert methods.make("mine", {"num_virtual_tokens": 4}) == Mine(num_virtual_tokens=4)
    assert {"prefix", "mine"} <= methods.registry().keys()
    check_method("mine", ("llama",))


def test_a_head_of_another_package_is_known_by_its_name(offer: Offer) -> None:
    offer("foreword.heads", scaled="other_package:Scaled")
    assert heads.registry()["scaled"] is Scaled
    assert {"words", "pooled"} <= heads.registry().keys()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("other_package:Missing", "cannot be loaded"),
        ("no_such_package:Mine", "cannot be loaded"),
        ("other_package:Scaled", "is no Method"),
        ("other_package:Impostor", "is taken"),
    ],
)
def test_an_entry_point_that_is_no_good_is_named(offer: Offer, value: str, why: str) -> None:
    offer("foreword.methods", mine=value)
    with pytest.raises(SettingsError, match=why) as refused:
        methods.registry()
    assert value.partition(":")[0] in str(refused.value)


def test_groups_are_read_from_what_is_installed() -> None:
    assert not list(importlib.metadata.entry_points(group="foreword.methods"))
