"""Templates: sandboxed Jinja2 over a row's fields, checked before any row is rendered.

A template travels inside a foreword's file, so it is foreign text: it gets the fields, ``if``, ``for``, a short list of
filters and the places of template_marks.py, and nothing by which it could reach Python, run for ever or grow
without bound.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import TemplateError as JinjaError

from foreword.data.row import is_missing, unusable, what_it_is
from foreword.data.task.sandbox import MAX_OUTPUT, SandboxEnvironment, environment
from foreword.data.task.template_marks import (
    ANSWER,
    GUIDANCE,
    MASK,
    WORDS,
    Mark,
    place_of,
    split,
    take,
    without_literals,
)
from foreword.errors import TemplateError
from foreword.messages import Message

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
        soft: its groups of soft slots.
        masked: whether it has a ``{{ mask }}``.
        gap: whether it has an ``{{ answer }}``, the place that the answer goes to.
        guided: whether it has the guidance in it.

    Raises:
        TemplateError: it does not parse, or uses something that templates here cannot do.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        if len(source) > MAX_SOURCE:
            raise TemplateError(
                "the template is too long", expected=Message("at most {MAX_SOURCE:,} characters", MAX_SOURCE=MAX_SOURCE)
            )
        if "\x00" in source:
            raise TemplateError("the template has a NUL character in it", where="template")
        env = environment()
        try:
            tree = env.parse(source)
            _refuse_unsafe(tree)
            self.soft, counts = take(tree)
            self.masked, self.gap = counts[MASK] > 0, counts[ANSWER] > 0
            self._woven = any(name.name == GUIDANCE for name in tree.find_all(nodes.Name))
            self.guided = self._woven or any(group.guidance for group in self.soft)
            self._places = dict(_uses(tree))
            self.fields = frozenset(self._places)
            absent = frozenset(_allowed_absent(tree)) & self.fields
            self._filled = frozenset(_tested(tree)) & self.fields - absent
            self.optional = self._filled | absent
            self._template = env.from_string(tree)
        except TemplateSyntaxError as error:
            hint = "fields are written {{ name }}; blocks {% if name %} ... {% endif %}"
            where = place_of(source, error.lineno, _broken(env, source, error.lineno))
            raise TemplateError(
                Message("the template does not parse: {message}", message=error.message), where=where, hint=hint
            ) from error
        except (RecursionError, JinjaError) as error:
            raise TemplateError("the template does not parse", where="template", received=str(error)) from error

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def validate(self, columns: Iterable[str], aside: Collection[str] = ()) -> None:
        """Refuse a template that names a column which is not there.

        Args:
            columns: of the rows.
            aside: those of them that are no input (the target), so that a template's own word is not taken for them.

        Raises:
            TemplateError: with the line and column in the template and the nearest column's name.
        """
        known = list(columns)
        for name in sorted(self._places, key=lambda name: self._places[name]):
            if name not in known and name not in self.optional:
                close = difflib.get_close_matches(name, [*known, *WORDS], 1, 0.5)
                hint = (
                    Message("did you mean {value!r}?", value=close[0])
                    if close
                    else 'write {{ row["a b"] }} for a name with spaces'
                )
                raise TemplateError(
                    Message("the template names a field that the rows do not have: {name!r}", name=name),
                    where=self.place(name),
                    expected=Message("one of {names}", names=", ".join(map(repr, known))),
                    hint=hint,
                )
        used = {MASK: self.masked, ANSWER: self.gap, GUIDANCE: self._woven}
        for name in (name for name, there in used.items() if there and name in known and name not in aside):
            raise TemplateError(
                Message("{name!r} is a column here, and a word of templates", name=name),
                where="template",
                hint=Message(
                    'write {{{{ row["{name}"] }}}} for the column, or name the input columns with --input', name=name
                ),
            )

    def place(self, name: str) -> str:
        """Where the template first names a column: ``template:LINE:COLUMN``."""
        return place_of(self.source, self._places.get(name, 1), name)

    def render(self, fields: Mapping[str, object], guidance: str = "") -> str:
        """The text for one row, without its places.

        Raises:
            TemplateError: as :meth:`parts`.
        """
        return "".join(part for part in self.parts(fields, guidance) if isinstance(part, str))

    def parts(self, fields: Mapping[str, object], guidance: str = "") -> list[str | Mark]:
        """The texts and the places of one row, in order.

        Raises:
            TemplateError: a field is missing or empty of value (None), or the text grows beyond ``MAX_OUTPUT``.
        """
        values = {name: value for name, value in fields.items() if not (value is None or value != value)}
        values.update({name: "" for name in self._filled if name not in values})
        absent = sorted(name for name in self.fields - self.optional if name not in values)
        if absent:
            raise TemplateError(
                Message("the row has no value for {value!r}", value=absent[0]),
                where=f"template:{self._places[absent[0]]}",
            )
        if self.soft or self.masked or self.gap:
            for name in self.fields & values.keys():
                why = unusable(without_literals(values[name]))
                if why:
                    raise TemplateError(Message("the field {name!r} has {why}", name=name, why=why), where="template")
        context = values if _ROW in values else {**values, _ROW: values}
        if self._woven:
            context = {**context, GUIDANCE: guidance}
        try:
            return list(split("".join(_bounded(self._template.generate(context)))))
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
            raise TemplateError(
                Message("the template {kind}: {error}", kind=kind, error=error), where="template"
            ) from error

    def not_text(self, fields: Mapping[str, object], guidance: str = "") -> str:
        """What keeps a row from being written because a cell is no text; "" where nothing does."""
        cells = [name for name in sorted(self.fields) if what_it_is(fields.get(name))]
        if not cells:
            return ""
        try:
            self.parts(fields, guidance)
        except TemplateError:
            name = next((name for name in cells if self._spells(name)), cells[0])
            value, written = fields[name], name if name.isidentifier() else f"row[{name!r}]"
            hint = Message("name a part of it in --template: {{{{ {written}[0] }}}}", written=written)
            if isinstance(value, Mapping) and value:
                hint = Message(
                    "name a part of it in --template: {{{{ {written}[{next!r}] }}}}",
                    written=written,
                    next=next(iter(value)),
                )
            elif isinstance(value, list | tuple) and not what_it_is(value[0] if value else ""):
                hint = Message("join it in --template: {{{{ {written} | join(' ') }}}}", written=written)
            return Message(
                "the field {name!r} is {what_it_is}, and no text; {hint}",
                name=name,
                what_it_is=what_it_is(value),
                hint=hint,
            )
        return ""

    def _spells(self, name: str) -> bool:
        """Whether the template writes a field as it is."""
        return re.search(r"\{\{[-+]?\s*" + re.escape(name) + r"\s*[-+]?\}\}", self.source) is not None

    def before(self, word: str) -> str:
        """The template's source in front of ``{{ mask }}`` or ``{{ answer }}``; all of it where that is not there."""
        found = re.search(r"\{\{[-+]?\s*" + word + r"\s*[-+]?\}\}", self.source)
        return self.source[: found.start()] if found else self.source


@lru_cache(maxsize=64)
def parsed(source: str) -> Template:
    """The template of a source; parsed once."""
    return Template(source)


def _broken(env: SandboxEnvironment, source: str, line: int) -> str:
    """What of a line that does not parse is most likely why: its first tag that does not parse alone."""
    lines = source.splitlines()
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    tags = re.findall(r"\{\{.*?\}\}|\{%.*?%\}|\{\{.*|\{%.*", text)
    for tag in tags:
        try:
            env.parse(tag)
        except TemplateSyntaxError:
            return str(tag)
    return str(tags[0]) if tags else ""


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    total = 0
    for part in parts:
        total += len(part)
        if total > MAX_OUTPUT:
            raise SecurityError(Message("the text grows beyond {MAX_OUTPUT:,} characters", MAX_OUTPUT=MAX_OUTPUT))
        yield part


def _refuse_unsafe(tree: nodes.Template) -> None:
    def refuse(node: nodes.Node, what: str) -> TemplateError:
        hint = "a template has fields, if, for and simple filters"
        return TemplateError(
            Message("{what} is not possible in a template", what=what), where=f"template:{node.lineno}", hint=hint
        )

    def walk(node: nodes.Node, loops: int) -> None:
        if not isinstance(node, (*_ALLOWED, nodes.Not, nodes.And, nodes.Or)):
            raise refuse(node, type(node).__name__.lower())
        if isinstance(node, nodes.Getattr) and (node.attr.startswith("_") or node.attr == "format"):
            raise refuse(node, Message("the attribute {attr!r}", attr=node.attr))
        key = node.arg.value if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) else None
        if isinstance(key, str) and key.startswith("__"):
            raise refuse(node, Message("the key {key!r}", key=key))
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
    own |= {"loop", "range", GUIDANCE}
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
