"""The second half of the check: every row is rendered and tokenised once, and what cannot be or is too long is told."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foreword.data.quality.check_report import CheckReport
from foreword.data.row import Problem, Row
from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.data.tokens.examples import Encoder, Example
from foreword.errors import DataError, SettingsError
from foreword.messages import Message


@dataclass(frozen=True)
class Encoded:
    """Rows as token ids, and the check's report with what their lengths say.

    Args:
        tables: split name -> its rows, the refused ones left out; ``examples``: the same rows as token ids.
        dropped: split name -> reason -> how many rows were left out.
    """

    tables: dict[str, Table]
    examples: dict[str, list[Example]]
    report: CheckReport
    dropped: dict[str, dict[str, int]]


def encode_splits(
    tables: Mapping[str, Table],
    dropped: Mapping[str, Mapping[str, int]],
    report: CheckReport,
    encoder: Encoder,
    front: int = 0,
    limit: int | None = None,
) -> Encoded:
    """Encode rows that a check has passed, and leave out those that the base cannot read.

    Args:
        dropped: what it left out, and its ``report``.
        front: positions that stand in front of every row.
        limit: the most tokens that the base reads; None: any number.
    """
    if limit is not None and front >= limit:
        raise window_full(front, limit)
    kept: dict[str, Table] = {}
    examples: dict[str, list[Example]] = {}
    problems: list[Problem] = []
    tokens: dict[str, dict[str, float]] = {}
    for name, table in tables.items():
        pairs, lengths = [], []
        for row, example in zip(table.rows, _encoded(encoder, table.rows), strict=True):
            if isinstance(example, str):
                problems.append(Problem("template", str(row.source), example, "error", row.id, name))
                continue
            length = front + encoder.size(example)
            lengths.append(length)
            if limit is None or length <= limit:
                pairs.append((row, example))
            else:
                message = Message("{length:,} tokens; the model reads {limit:,}", length=length, limit=limit)
                problems.append(Problem("too_long", str(row.source), message, "error", row.id, name))
        kept[name], examples[name] = table.with_rows(row for row, _ in pairs), [example for _, example in pairs]
        if lengths:
            tokens[name] = _figures(lengths)
    if limit is not None and not any(examples.values()) and 2 * front > limit:
        raise window_full(front, limit)
    reasons = Counter((problem.split, problem.kind) for problem in problems)
    more = {name: {kind: n for (split, kind), n in reasons.items() if split == name} for name in tables}
    return Encoded(
        kept,
        examples,
        _with_problems(report, problems, tokens),
        {name: {**dropped.get(name, {}), **more[name]} for name in tables},
    )


def window_full(front: int, limit: int) -> SettingsError:
    """The error for what stands in front of every row and leaves no room for one."""
    return SettingsError(
        "the guidance and what is learned in front of every row leave no room for the rows",
        where="--guidance",
        expected=Message("well below the {limit:,} tokens that the base reads", limit=limit),
        received=f"{front:,} tokens",
        hint="give a shorter prompt with --guidance (one that is made for many labels lists them all), or a base that "
        "reads more",
    )


def _encoded(encoder: Encoder, rows: Sequence[Row]) -> Sequence[Example | str]:
    """All rows at once; where one of them cannot be encoded, each alone, to name all of these."""
    try:
        return encoder.encode(rows)
    except DataError:
        return list(encoder.one_by_one(rows))


def _with_problems(
    report: CheckReport, problems: Sequence[Problem], tokens: dict[str, dict[str, float]]
) -> CheckReport:
    lost = Counter(problem.split for problem in problems)
    counts = {
        name: {**count, "kept": count["kept"] - lost[name], "dropped": count["dropped"] + lost[name]}
        for name, count in report.counts.items()
    }
    return replace(report, problems=(*report.problems, *problems), counts=counts, tokens=tokens)


def _figures(lengths: Sequence[int]) -> dict[str, float]:
    """Of the tokens of a split's rows."""
    ordered = sorted(lengths)
    at = min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)
    return {"min": ordered[0], "median": statistics.median(ordered), "p95": ordered[at], "max": ordered[-1]}


def refuse_long_k(first_k: int | None, task: Task, table: Table) -> None:
    """Refuse, before a base is loaded, a k that no text can reach: a token is at least one byte.

    Raises:
        SettingsError: no field of the template is as long.
    """
    if first_k is None:
        return
    names = Template(task.template).fields
    values = (row.fields.get(name) for row in table.rows for name in names)
    longest = max((len(value.encode()) for value in values if isinstance(value, str)), default=0)
    if first_k >= longest:
        raise _too_long(first_k, f"at most {longest} bytes a field")


def refuse_uncut(first_k: int | None, examples: Sequence[Example]) -> None:
    """Refuse a k that leaves every row as it is, or nothing of any row.

    Raises:
        SettingsError: no row was cut, or no word that is to be tagged is left.
    """
    if first_k is None:
        return
    if not any(example.cut for example in examples):
        raise _too_long(first_k, f"{len(examples)} rows, none of them cut")
    if all(example.places and max(example.places) < 0 for example in examples):
        raise SettingsError(
            Message("no word lies within the first {first_k} tokens, so there is nothing to tag", first_k=first_k),
            where="--input-prefix",
            expected="as many tokens as the first words have",
            received=first_k,
        )


def _too_long(first_k: int, received: str) -> SettingsError:
    return SettingsError(
        Message("the first {first_k} tokens are the whole of every input", first_k=first_k),
        where="--input-prefix",
        expected="fewer tokens than the longest field has",
        received=received,
        hint="choose a smaller k, or leave it out to use whole inputs",
    )
