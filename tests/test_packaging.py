"""What pyproject.toml claims, what make installs and what `make compat` tries are the same."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pairs}


def test_make_installs_versions_that_the_project_allows(project: dict[str, Any]) -> None:
    pinned = pins("torch.txt") | pins("main.txt")
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["dev"]]
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.name == project["project"]["name"]:  # foreword[serve]: what that extra holds
            wanted += [line for extra in requirement.extras for line in extras[extra]]
        else:
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_torch_is_pinned_apart_and_without_a_registry(project: dict[str, Any]) -> None:
    assert list(pins("torch.txt")) == ["torch"]
    assert "torch" not in pins("main.txt")
    assert not [name for name in pins("main.txt") if name.startswith(("nvidia-", "cuda-"))]


def test_compat_tries_both_ends_of_the_range(project: dict[str, Any]) -> None:
    oldest, newest = project["tool"]["foreword"]["compat"]["transformers"]
    (claim,) = [line for line in project["project"]["dependencies"] if line.startswith("transformers")]
    match = re.fullmatch(r"transformers>=(\d+)\.(\d+),<(\d+)\.(\d+)", claim)
    assert match
    major, low, below_major, below = map(int, match.groups())
    assert (major, low) == tuple(map(int, oldest.split(".")[:2]))
    assert (below_major, below - 1) == tuple(map(int, newest.split(".")[:2]))
    assert pins("main.txt")["transformers"] == newest


def test_the_console_script_is_there(project: dict[str, Any]) -> None:
    module, name = project["project"]["scripts"]["foreword"].split(":")
    assert callable(getattr(importlib.import_module(module), name))
