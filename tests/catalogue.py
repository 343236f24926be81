"""Every text of the program's for people, gathered from its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import foreword
from foreword import errors

ROOT = Path(foreword.__file__).parent
# What the commands train, check, predict, compare, show, ls, evaluate, search, explain and errors never reach.
_ELSEWHERE = (
    "export", "serve", "sklearn.py", "testing", "samples.py", "training/from_scratch",
    "studies/transfer", "studies/feedback", "studies/bias", "studies/input_length.py",
)  # fmt: skip
_ERRORS = {name for name in vars(errors) if isinstance(vars(errors)[name], type)} | {"Problem"}
_NAMES = {"problem", "hint", "expected", "message"}
_CATALOGUED = {"Message", "say"}


def leaves(node: ast.expr) -> Iterator[ast.expr]:
    """What a value can be: the branches of a condition, the terms of an ``or``."""
    if isinstance(node, ast.IfExp):
        yield from (*leaves(node.body), *leaves(node.orelse))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from leaves(value)
    else:
        yield node


def _texts(node: ast.AST) -> Iterator[ast.expr]:
    """Expressions under a node that are texts for people."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        if name in _ERRORS:
            yield from (node.args[2:3] if name == "Problem" else node.args[:1])
        if name in _CATALOGUED:
            yield from node.args[:1]
        yield from (keyword.value for keyword in node.keywords if keyword.arg in _NAMES)
    elif isinstance(node, ast.Assign) and any(_is_text(target) for target in node.targets):
        yield node.value


def _is_text(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.strip("_").lower() in _NAMES


def said(path: Path) -> tuple[set[str], set[str]]:
    """The texts of one file, and its texts that are made with an f-string and so cannot be translated."""
    texts, formatted = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for value in _texts(node):
            for leaf in leaves(value):
                if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                    texts.add(leaf.value)
                elif isinstance(leaf, ast.JoinedStr) and _has_words(leaf):
                    formatted.add(f"{path.relative_to(ROOT)}:{leaf.lineno}: {ast.unparse(leaf)}")
    return texts, formatted


def files() -> Iterator[Path]:
    """The files whose texts are translated."""
    for path in sorted(ROOT.rglob("*.py")):
        if not path.relative_to(ROOT).as_posix().startswith(_ELSEWHERE):
            yield path


def _has_words(node: ast.JoinedStr) -> bool:
    literal = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
    return sum(map(str.isalpha, literal)) > 1 and " " in literal.strip()
