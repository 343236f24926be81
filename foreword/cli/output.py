"""What a command prints: one JSON document for machines, or text for people."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, TextIO, runtime_checkable

from foreword.messages import say_if_known
from foreword.messages.width import columns, padded, wrapped
from foreword.progress import Progress

LOADING = "load model"


@runtime_checkable
class HasJson(Protocol):
    """A result that knows its JSON form."""

    def to_json(self) -> Any: ...


@runtime_checkable
class HasText(Protocol):
    """A result that knows how to show itself to people."""

    def render(self) -> str: ...


@contextmanager
def work(loads: bool = False) -> Iterator[Progress]:
    """While a command works: progress on standard error, and libraries that print do it there as well.

    Args:
        loads: the command loads a model, which takes some seconds with its libraries: say so at once.
    """
    with redirect_stdout(sys.stderr), Progress(sys.stderr) as progress:
        if loads and speaks():
            progress(LOADING, 0, 1)
        yield progress


def as_json(value: object) -> Any:
    """A result as JSON has it; numbers that JSON does not have become null."""
    if isinstance(value, HasJson):
        return as_json(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def print_json(value: object) -> None:
    """One JSON document on one line of standard output."""
    text = json.dumps(as_json(value), ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(as_json(value))
    print(text, flush=True)


def speaks() -> bool:
    """Whether this process talks to the user and owns the folders: of those that ``torchrun`` starts, the first."""
    return os.environ.get("RANK", "0") == "0"


def show(result: object, machine: bool) -> None:
    """Print a result: as JSON, as the text it renders itself, as a table of rows, or as its fields."""
    if not speaks():
        return
    if machine:
        print_json(result)
    elif isinstance(result, HasText):
        print(fitted(result.render(), sys.stdout))
    elif isinstance(result, (list, tuple)):
        print_rows([as_json(item) for item in result])
    else:
        print_fields(as_json(result))


def fitted(text: str, stream: TextIO) -> str:
    """The text with lines that break between words where a terminal would break them anywhere; elsewhere as it is."""
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = [wrapped(line, width) if columns(line) > width else [line] for line in text.split("\n")]
    return "\n".join(part for line in lines for part in line)


def print_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> None:
    """A table on a terminal; tab-separated lines under a header anywhere else."""
    names = list(columns) if columns is not None else list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    if not names:
        return
    if not sys.stdout.isatty():
        for line in [names, *cells]:
            print("\t".join(cell.replace("\t", " ").replace("\n", "\\n") for cell in line))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(say_if_known(name.replace("_", " ")), overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def print_fields(values: Mapping[str, object]) -> None:
    """``name: value`` lines; nested maps are named with dots."""
    flat = dict(_flat(values, ""))
    names = {name: say_if_known(name) for name in flat}
    width = min(max(map(columns, names.values()), default=0), 40)
    for name, value in flat.items():
        print(f"{padded(names[name], width)}  {value}".rstrip())


def _flat(values: Mapping[str, object], before: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _cell(value).replace("\n", "\\n")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, Mapping)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
