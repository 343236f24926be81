"""Imports point one way and have no cycles, and what is heavy is loaded only when it is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import foreword
from foreword.api import HOME

ROOT = Path(foreword.__file__).parent
HEAVY = ("torch", "transformers", "pandas", "sklearn")

PAGE = ROOT.parent / "docs" / "architecture.md"


def rooms_of(page: str) -> dict[str, tuple[int, set[str]]]:
    """Room -> its level and what it does without, from the table of docs/architecture.md."""
    rooms = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0].isdigit():
            rooms[cells[1].strip("`")] = (int(cells[0]), set(re.findall(r"`(\w+)`", cells[3])))
    return rooms


ROOMS = rooms_of(PAGE.read_text(encoding="utf-8"))
# A file imports from its own room and from rooms of a lower level.
LEVEL = {name: level for name, (level, _) in ROOMS.items()}
FORBIDDEN = {name: without for name, (_, without) in ROOMS.items() if without}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room(module: str) -> str:
    """``foreword.core.inject.sites`` is in the room ``core``."""
    return module.split(".")[1]


def imported(source: str) -> set[tuple[str, int]]:
    """Everything that a source text imports anywhere in it, also inside functions, as (module, line)."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            outer = node.module if node.level == 0 and node.module else "."
            for alias in node.names:
                inner = f"{outer}.{alias.name}"
                found.add((inner if inner in modules() else outer, node.lineno))
    return found


@cache
def imports(module: str) -> frozenset[tuple[str, int]]:
    return frozenset(imported(modules()[module].read_text(encoding="utf-8")))


def own(module: str) -> set[tuple[str, int]]:
    return {(name, line) for name, line in imports(module) if name.split(".")[0] == "foreword"}


INSIDE = [name for name in modules() if name not in ("foreword", "foreword.__main__")]


def test_every_file_is_in_a_known_room() -> None:
    assert {room(name) for name in INSIDE} <= LEVEL.keys()
    assert FORBIDDEN["data"] == {"core", "methods", "artifact", "torch"}
    assert FORBIDDEN["methods"] == {"data", "training", "artifact"}


@pytest.mark.parametrize("module", INSIDE)
def test_imports_point_down(module: str) -> None:
    here = room(module)
    for name, line in own(module):
        assert name != "foreword", f"{module}:{line} imports the package itself: import the module that has the name"
        there = room(name)
        assert there == here or LEVEL[there] < LEVEL[here], f"{module}:{line} imports {name}, which is not below it"
        assert there not in FORBIDDEN.get(here, set()), f"{module}:{line} imports {name}: {here} does without {there}"
    for name, line in imports(module):
        assert name != ".", f"{module}:{line} imports relatively: say from where"
        assert name.split(".")[0] not in FORBIDDEN.get(here, set()), f"{module}:{line} imports {name}"


def test_no_cycles() -> None:
    edges = {name: {target for target, _ in own(name) if target != name and target in modules()} for name in INSIDE}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "a cycle: " + " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_imports_inside_functions_are_seen() -> None:
    source = "def f():\n    from foreword.cli import main\n    import torch.nn\n    from json import dumps\n"
    assert imported(source) == {("foreword.cli.main", 2), ("torch.nn", 3), ("json", 4)}


@pytest.mark.parametrize(
    "code",
    [
        "import foreword; dir(foreword)",
        "import foreword.settings.layers, foreword.progress, foreword.errors",
        "from foreword.cli.main import main; assert main(['--help']) == 0",
        "from foreword.cli.main import main; assert main(['train', '--help']) == 0",
        "from foreword.cli.main import main; assert main(['train', 'd.csv']) == 2",
        "from foreword.cli.main import main; assert main(['ls', 'tests/artifact/before']) == 0",
        "from foreword.cli.main import main; assert main(['show', 'tests/artifact/before/format-1.foreword']) == 0",
        "from foreword.cli.main import main; assert main(['doctor']) == 0",
        "from foreword.cli.main import main; assert main(['schema']) == 0",
        "from foreword.cli.main import main; assert main(['check', 'ROWS']) == 0",
        "from foreword.cli.main import main; assert main(['init', 'ROWS', '--output', 'ROWS.yaml']) == 0",
    ],
)
def test_nothing_heavy_is_imported_at_start(code: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "text,label\n" + "".join(f"row number {i} {word},{word}\n" for i in range(20) for word in ("yes", "no"))
    )
    code = code.replace("ROWS", str(rows))
    check = f"import sys; {code}; print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT.parent
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_at_most_twelve_names_each_with_a_home() -> None:
    assert len(foreword.__all__) <= 12
    assert set(foreword.__all__) == set(foreword.__all__) & HOME.keys()
    assert set(foreword.__all__) <= set(dir(foreword))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        foreword.nothing  # noqa: B018


@pytest.mark.parametrize("name", foreword.__all__)
def test_every_name_is_defined_in_its_home(name: str) -> None:
    path = modules()[HOME[name]]
    top = ast.parse(path.read_text(encoding="utf-8")).body
    defined = {node.name for node in top if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert name in defined
