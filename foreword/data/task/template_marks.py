"""What a template can hold besides fields: soft slots, the mask, the place of the answer, the guidance.

``{{ soft(8) }}``, ``{{ soft("some words") }}``, ``{{ mask }}`` and ``{{ answer }}`` are places and not text, so each
stands alone between its braces. They are found in the parsed template and put into its output as marks that no row can
contain. ``{{ guidance }}`` is text like a field, and may be used like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

from foreword.errors import TemplateError
from foreword.messages import Message

SOFT, MASK, ANSWER, GUIDANCE = "soft", "mask", "answer", "guidance"
WORDS = (SOFT, MASK, ANSWER, GUIDANCE)
"""Names that a template's own words take; a column of such a name is reached as ``row["mask"]``."""
MAX_SLOTS = 4096
# A row with a NUL is refused, so that no text of a row is taken for a mark.
LITERAL = "literal"
_MARK = re.compile("\x00([a-z]+)([0-9]*)\x00")


@dataclass(frozen=True)
class Soft:
    """One ``soft(...)``: ``count`` slots (None: as many as its words have tokens), which start from ``words``.

    ``guidance``: its words are the task's guidance.
    """

    count: int | None
    words: str = ""
    guidance: bool = False


@dataclass(frozen=True)
class Mark:
    """A place in a rendered row: ``soft`` with the number of its group in the template, ``mask`` or ``answer``."""

    name: str
    group: int = 0


def take(tree: nodes.Template) -> tuple[tuple[Soft, ...], dict[str, int]]:
    """Replace the marks of a template's tree by text that :func:`split` finds again.

    Returns:
        The soft groups in their order, and how often each of the names ``mask`` and ``answer`` stands there.

    Raises:
        TemplateError: a mark inside a loop, a filter or an expression, or a ``soft`` with other arguments.
    """
    groups: list[Soft] = []
    counts = {MASK: 0, ANSWER: 0}
    looped = {id(node) for loop in tree.find_all(nodes.For) for node in loop.find_all(nodes.Output)}
    for output in tree.find_all(nodes.Output):
        for place, node in enumerate(output.nodes):
            name = _name(node)
            if not name:
                continue
            if id(output) in looped:
                raise _wrong(node, Message("{name} cannot stand in a loop", name=name))
            mark = name
            if isinstance(node, nodes.Call):
                mark = f"{SOFT}{len(groups)}"
                groups.append(_soft(node))
            else:
                counts[name] += 1
            output.nodes[place] = nodes.TemplateData(f"\x00{mark}\x00", lineno=node.lineno)
    for left in tree.find_all(nodes.Name):
        if left.name in (SOFT, MASK, ANSWER):
            raise _wrong(
                left, Message("{name} is a place and no text: it stands alone between its braces", name=left.name)
            )
    for name, count in counts.items():
        if count > 1:
            raise TemplateError(
                Message("a template has one {{{{ {name} }}}} at most", name=name), where="template", received=count
            )
    if sum(group.count or 1 for group in groups) > MAX_SLOTS:
        raise TemplateError(
            "too many soft slots", where="template", expected=Message("at most {MAX_SLOTS}", MAX_SLOTS=MAX_SLOTS)
        )
    return tuple(groups), counts


def _name(node: nodes.Expr) -> str:
    """The mark that a node of the output is; "" for anything else."""
    if isinstance(node, nodes.Name) and node.name in (MASK, ANSWER):
        return node.name
    called = isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == SOFT
    return SOFT if called else ""


def _soft(call: nodes.Call) -> Soft:
    arguments: list[object] = [one.value if isinstance(one, nodes.Const) else one for one in call.args]
    first = arguments[0] if arguments else None
    count = first if type(first) is int and 1 <= first <= MAX_SLOTS else None
    if count is not None:
        arguments.pop(0)
    plain = len(arguments) <= 1 and not (call.kwargs or call.dyn_args or call.dyn_kwargs)
    words = arguments[0] if arguments else ""
    if plain and isinstance(words, nodes.Name) and words.name == GUIDANCE:
        return Soft(count, guidance=True)
    if plain and isinstance(words, str) and (count is not None or words.strip()):
        return Soft(count, words)
    raise _wrong(call, "soft takes a number of slots, the words that they start from, or both")


def _wrong(node: nodes.Node, problem: str) -> TemplateError:
    hint = 'write {{ soft(8) }}, {{ soft("some words") }}, {{ soft(8, "some words") }}, {{ mask }} or {{ answer }}'
    return TemplateError(problem, where=f"template:{node.lineno}", hint=hint)


def literal_mark(number: int) -> str:
    """What stands in a rendered text for the special token of that number, which a row spells."""
    return f"\x00{LITERAL}{number}\x00"


def without_literals(text: object) -> object:
    """A field without the marks of :func:`literal_mark`."""
    return re.sub(f"\x00{LITERAL}[0-9]+\x00", "", text) if isinstance(text, str) else text


def split(text: str) -> Iterator[str | Mark]:
    """A rendered row as its texts and marks, in order; texts are not empty."""
    pieces = _MARK.split(text)
    for place in range(0, len(pieces), 3):
        if pieces[place]:
            yield pieces[place]
        if place + 1 < len(pieces):
            yield Mark(pieces[place + 1], int(pieces[place + 2] or 0))


def place_of(source: str, line: int, needle: str) -> str:
    """``template:LINE:COLUMN`` of ``needle`` in that line of a template, both from 1; without a column where it is not
    found."""
    lines = source.splitlines()
    found = lines[line - 1].find(needle) if needle and 0 < line <= len(lines) else -1
    return f"template:{line}" if found < 0 else f"template:{line}:{found + 1}"
