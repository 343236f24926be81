"""Templates: sandboxed Jinja2 over a row's fields, checked before any row is rendered.

A template travels inside a foreword's file, so it is foreign text: it gets the fields, ``if``, ``for`` and a short list
of filters, and nothing by which it could reach Python, run for ever or grow without bound.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import TemplateError as JinjaError

from foreword.data.example import is_missing
from foreword.data.sandbox import MAX_OUTPUT, environment
from foreword.errors import TemplateError

MAX_SOURCE = 64 * 1024
"""Longest template, in characters."""
_ROW = "row"
_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Name, nodes.Const, nodes.Tuple,
    nodes.List, nodes.Dict, nodes.Pair, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Keyword,
    nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.BinExpr,
    nodes.UnaryExpr,
)  # fmt: skip


class Template:
    """A template over the fields of a row. ``{{ row["a name with spaces"] }}`` reaches any column.

    Attributes:
        source: the template's text.
        fields: names of the columns it uses.
        optional: those of them that it tests with ``if`` or gives a default, so that they may be missing or empty.

    Raises:
        TemplateError: it does not parse, or uses something that templates here cannot do.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        if len(source) > MAX_SOURCE:
            raise TemplateError("the template is too long", expected=f"at most {MAX_SOURCE:,} characters")
        env = environment()
        try:
            tree = env.parse(source)
            _refuse_unsafe(tree)
            self._places = dict(_uses(tree))
            self.fields = frozenset(self._places)
            absent = frozenset(_allowed_absent(tree)) & self.fields
            self._filled = frozenset(_tested(tree)) & self.fields - absent
            self.optional = self._filled | absent
            self._template = env.from_string(source)
        except TemplateSyntaxError as error:
            hint = "fields are written {{ name }}; blocks {% if name %} ... {% endif %}"
            raise TemplateError(f"the template does not parse: {error.message}", where=f"template:{error.lineno}",
                                hint=hint) from error  # fmt: skip
        except (RecursionError, JinjaError) as error:
            raise TemplateError("the template does not parse", where="template", received=str(error)) from error

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def validate(self, columns: Iterable[str]) -> None:
        """Refuse a template that names a column which is not there.

        Raises:
            TemplateError: with the line in the template and the nearest column's name.
        """
        known = list(columns)
        for name, line in sorted(self._places.items(), key=lambda item: item[1]):
            if name not in known and name not in self.optional:
                close = difflib.get_close_matches(name, known, 1, 0.5)
                hint = f"did you mean {close[0]!r}?" if close else 'write {{ row["a b"] }} for a name with spaces'
                raise TemplateError(
                    f"the template names a field that the rows do not have: {name!r}",
                    where=f"template:{line}",
                    expected=f"one of {', '.join(map(repr, known))}",
                    hint=hint,
                )

    def render(self, fields: Mapping[str, object]) -> str:
        """The text for one row.

        Raises:
            TemplateError: a field is missing or empty of value (None), or the text grows beyond ``MAX_OUTPUT``.
        """
        values = {name: value for name, value in fields.items() if not (value is None or value != value)}
        values.update({name: "" for name in self._filled if name not in values})
        absent = sorted(name for name in self.fields - self.optional if name not in values)
        if absent:
            raise TemplateError(f"the row has no value for {absent[0]!r}", where=f"template:{self._places[absent[0]]}")
        context = values if _ROW in values else {**values, _ROW: values}
        try:
            return "".join(_bounded(self._template.generate(context)))
        except (
            JinjaError,
            ArithmeticError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            kind = "is not allowed" if isinstance(error, SecurityError) else "fails on a row"
            if isinstance(error, UndefinedError):
                kind = "asks for something that is not there"
            raise TemplateError(f"the template {kind}: {error}", where="template") from error


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    total = 0
    for part in parts:
        total += len(part)
        if total > MAX_OUTPUT:
            raise SecurityError(f"the text grows beyond {MAX_OUTPUT:,} characters")
        yield part


def _refuse_unsafe(tree: nodes.Template) -> None:
    def refuse(node: nodes.Node, what: str) -> TemplateError:
        hint = "a template has fields, if, for and simple filters"
        return TemplateError(f"{what} is not possible in a template", where=f"template:{node.lineno}", hint=hint)

    def walk(node: nodes.Node, loops: int) -> None:
        if not isinstance(node, (*_ALLOWED, nodes.Not, nodes.And, nodes.Or)):
            raise refuse(node, type(node).__name__.lower())
        if isinstance(node, nodes.Getattr) and (node.attr.startswith("_") or node.attr == "format"):
            raise refuse(node, f"the attribute {node.attr!r}")
        key = node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None
        if isinstance(key, str) and key.startswith("__"):
            raise refuse(node, f"the key {key!r}")
        loops += isinstance(node, nodes.For)
        # Loops in loops run for ever without writing anything, which no limit on the output sees.
        if loops > 1 or (isinstance(node, nodes.For) and node.recursive):
            raise refuse(node, "a loop inside a loop")
        for child in node.iter_child_nodes():
            walk(child, loops)

    walk(tree, 0)


def _uses(tree: nodes.Template) -> Iterator[tuple[str, int]]:
    """The columns a template reads, with the first line of each."""
    own = {name.name for loop in tree.find_all(nodes.For) for name in loop.target.find_all(nodes.Name)}
    own |= {loop.target.name for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)}
    own |= {"loop", "range"}
    found: dict[str, int] = {}
    keyed: set[int] = set()
    for item in tree.find_all(nodes.Getitem):
        if isinstance(item.node, nodes.Name) and item.node.name == _ROW and isinstance(item.arg, nodes.Const):
            keyed.add(id(item.node))
            found.setdefault(str(item.arg.value), item.lineno)
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name not in own and id(name) not in keyed:
            found.setdefault(name.name, name.lineno)
    yield from found.items()


def _names(node: nodes.Node) -> Iterator[str]:
    for one in (node, *node.find_all((nodes.Name, nodes.Getitem))):
        if isinstance(one, nodes.Name):
            yield one.name
        elif isinstance(one, nodes.Getitem) and isinstance(one.arg, nodes.Const):
            yield str(one.arg.value)


def _tested(tree: nodes.Template) -> Iterator[str]:
    """Fields that the template asks about before it uses them; they count as empty where they are missing."""
    tests: list[nodes.Node] = [node.test for node in tree.find_all(nodes.If)]
    tests += [node.test for node in tree.find_all(nodes.CondExpr)]
    for test in tests:
        yield from _names(test)


def _allowed_absent(tree: nodes.Template) -> Iterator[str]:
    """Fields with a default, or with ``is defined``: these must see that the field is not there."""
    for node in tree.find_all(nodes.Filter):
        if node.name in ("default", "d") and node.node is not None:
            yield from _names(node.node)
    for test in tree.find_all(nodes.Test):
        if test.name in ("defined", "undefined"):
            yield from _names(test.node)


def empty_fields(template: Template, fields: Mapping[str, object]) -> list[str]:
    """Fields that the template needs and that are missing or empty in a row, in order of name."""
    return sorted(name for name in template.fields - template.optional if is_missing(fields.get(name)))
