"""One call reads every format: the rows that can be used, and a list of those that cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foreword.data.readers.charset import decode, load_bytes
from foreword.data.readers.chat_messages import expand_messages, has_messages
from foreword.data.readers.conll import looks_like_conll, read_conll
from foreword.data.readers.delimited import read_csv, read_pairs, read_tsv
from foreword.data.readers.in_memory import read_memory, read_parquet
from foreword.data.readers.json_lines import read_json, read_jsonl
from foreword.data.readers.semantic_roles import expand_roles, has_roles
from foreword.data.row import Problem, Raw, canonical, make_rows, unusable
from foreword.data.table import Table
from foreword.data.task.columns import known_names, recognise
from foreword.data.task.tagging import find_columns, join_lists
from foreword.errors import DataError

__all__ = ["Table", "read"]

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def read(
    source: object,
    *,
    encoding: str | None = None,
    inputs: Sequence[str] = (),
    target: str | None = None,
    labelled: bool = True,
) -> Table:
    """Read a data file (CSV, TSV, JSON, JSON Lines, Parquet, pairs, CoNLL; .gz too) or data in memory.

    Args:
        source: a path, a pandas DataFrame, a Hugging Face Dataset, or a list of dictionaries.
        encoding: of the text; None: found out (UTF-8, UTF-16 and UTF-32 with a mark, GBK).
        inputs: columns of the input; empty: recognised.
        target: column of the label or completion; None: recognised.
        labelled: False when the rows need no target (data to predict on).

    Raises:
        DataError: the file cannot be read, has no rows, or its columns are not recognised. A single bad row is no
            error here: it is in ``Table.problems`` with its line.
        SettingsError: the encoding is unknown.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        file, name = str(source), path.name
        data = load_bytes(path)
        raw, used, kind = _parse(data, file, encoding, (*inputs, *((target,) if target else ())), labelled)
        digest = hashlib.sha256(data).hexdigest()
    else:
        raw, file = read_memory(source)
        name, used, kind = file, "memory", "memory"
        digest = hashlib.sha256(
            "\n".join(canonical(fields) for fields, _ in raw.records).encode("utf-8", "surrogatepass")
        ).hexdigest()
    if has_messages(raw.columns):
        raw = expand_messages(raw, file, labelled)
    elif has_roles(raw.columns):
        raw = expand_roles(raw, file)
    tagged = find_columns(raw.columns)
    if tagged is not None:
        raw = join_lists(raw, tagged, file)
    _set_unusable_aside(raw, file)
    if not raw.records:
        _refuse_empty(raw, file, kind)
    rows = make_rows(raw.records, file)
    try:
        layout = recognise(raw.columns, rows, inputs, target, labelled=labelled)
    except DataError as error:
        raise DataError(
            error.problem, where=file, expected=error.expected, received=error.received, hint=error.hint
        ) from error
    if raw.description and not inputs and target is None:
        layout = replace(layout, description=raw.description)
    return Table(rows, raw.columns, name, layout, tuple(raw.problems), digest, used)


def _parse(
    data: bytes, file: str, encoding: str | None, named: tuple[str, ...], labelled: bool
) -> tuple[Raw, str, str]:
    if not data.strip():
        raise DataError("the file is empty", where=file, hint="give a file with at least a few rows")
    if data.startswith(b"PAR1"):
        return read_parquet(data, file), "binary", "parquet"
    kind = _SUFFIXES.get(Path(file.lower().removesuffix(".gz")).suffix, "")
    if kind == "parquet":
        raise DataError("this is not a Parquet file", where=file, expected="the bytes PAR1 at its start")
    text, used = decode(data, file, encoding)
    if not text.strip():
        raise DataError("the file is empty", where=file, hint="give a file with at least a few rows")
    kind = kind or _guess(text)
    if kind in ("txt", "tsv") and looks_like_conll(text):
        kind = "conll"
    if kind == "csv":
        raw = read_csv(text, file)
    elif kind == "tsv":
        raw = read_tsv(text, file, known_names() | {name.lower() for name in named})
    elif kind == "txt":
        raw = read_pairs(text, file, labelled)
    elif kind == "conll":
        raw = read_conll(text, file)
    elif kind == "json":
        raw = read_json(text, file)
    else:
        raw = read_jsonl(text, file)
    return raw, used, kind


def _guess(text: str) -> str:
    """The format of a file whose name does not tell."""
    start = text.lstrip()
    if start.startswith("["):
        return "json"
    if start.startswith("{"):
        return "json"  # which notices JSON Lines by itself
    return "tsv" if "\t" in start.split("\n", 1)[0] else "csv"


def _set_unusable_aside(raw: Raw, file: str) -> None:
    good = []
    for fields, line in raw.records:
        why = unusable(fields)
        if why:
            raw.problems.append(Problem("unreadable", f"{file}:{line}", f"the row holds {why}"))
        else:
            good.append((fields, line))
    raw.records = good
    raw.problems.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))


def _refuse_empty(raw: Raw, file: str, kind: str) -> None:
    if raw.problems:
        first = raw.problems[0]
        message = f"none of the {len(raw.problems)} rows can be read"
        hint = "a .txt file is one dialogue pair a line, with a tab between" if kind == "txt" else "repair the file"
        raise DataError(message, where=first.where, received=first.message, hint=hint)
    hint = "add rows below the header" if kind in ("csv", "tsv") else "give at least one row"
    raise DataError("there are no rows in the data", where=file, hint=hint)
