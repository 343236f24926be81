"""What a check found: for programs and for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foreword.data.row import Problem
from foreword.data.table import Table
from foreword.messages import Message, say, say_if_known
from foreword.messages.width import padded

TITLES = {
    "unreadable": "rows that cannot be read",
    "long_row": "rows over very many lines",
    "missing": "missing fields",
    "empty": "empty fields",
    "template": "rows the template cannot be filled with",
    "unknown_label": "unknown labels",
    "bad_tags": "tags that do not fit the words, or each other",
    "unknown_tag": "tags that are never learned (they count as missed)",
    "nameless_role": "arguments without a role",
    "not_text": "cells that are no text",
    "several_labels": "rows with several labels",
    "unanswered": "messages without an answer",
    "tool_calls": "tool calls in conversations",
    "not_read": "parts of the file that are not read",
    "leak": "columns that say the label again",
    "similar_labels": "labels that look alike",
    "special_tokens": "rows that spell special tokens",
    "conflict": "the same text with different labels",
    "duplicate_across": "the same row in two splits",
    "duplicate": "the same row twice",
    "same_input": "the same input with another answer in another split",
    "near_duplicate_across": "nearly the same text in two splits",
    "near_duplicate": "nearly the same text twice",
    "too_long": "rows longer than the model can read",
    "cut_rows": "texts longer than the window, cut there",
    "missing_class": "labels without rows",
    "imbalance": "labels with few rows",
}
"""Every kind of problem, in the order of the report."""
_PLACES = 5


@dataclass(frozen=True)
class CheckReport:
    """Everything a check found.

    Attributes:
        problems: each with its split, place and severity.
        counts: split -> rows (in the file), kept, dropped (if the rows with errors are left out), unreadable.
        balance: split -> label -> rows.
        tokens: split -> min, median, p95, max tokens of a row; empty without a tokenizer.
        notes: encodings and languages, one line each.
    """

    problems: tuple[Problem, ...]
    counts: dict[str, dict[str, int]]
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    tokens: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems for which the data are refused."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that are worth a look."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def refuses(self) -> bool:
        """Whether the data are refused."""
        return any(problem.severity == "error" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "ok": not self.refuses,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "counts": self.counts,
            "balance": self.balance,
            "tokens": self.tokens,
            "notes": list(self.notes),
            "problems": [problem.to_json() for problem in self.problems],
        }

    def render(self) -> str:
        """Text for people: figures first, then the problems by kind with their first five places."""
        lines = []
        for name, count in self.counts.items():
            parts = [say(Message("{n:,} rows", n=count["rows"]))]
            if count["dropped"]:
                parts.append(say(Message("{n:,} without errors", n=count["kept"])))
            if name in self.tokens:
                token = self.tokens[name]
                parts.append(
                    say(
                        Message(
                            "tokens a row: {min:.0f} to {max:.0f}, median {median:.0f}, 95% up to {p95:.0f}", **token
                        )
                    )
                )
            lines.append(f"{name:<6} {'; '.join(parts)}")
            if self.balance.get(name):
                lines.append(f"       {_balance(self.balance[name])}")
        lines += [f"{padded(say('note'), 6)} {say_if_known(note)}" for note in self.notes]
        kinds: dict[tuple[str, str], list[Problem]] = defaultdict(list)
        for problem in self.problems:
            kinds[problem.severity, problem.kind].append(problem)
        order = list(TITLES)
        for (severity, kind), found in sorted(kinds.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
            lines += ["", f"{say(severity)}: {say(TITLES[kind])}: {len(found):,}"]
            lines += [f"  {problem.where}: {say_if_known(problem.message)}" for problem in found[:_PLACES]]
            if len(found) > _PLACES:
                lines.append(say(Message("  and {n:,} more", n=len(found) - _PLACES)))
        lines += ["", self._verdict()]
        return "\n".join(lines)

    def _verdict(self) -> str:
        if not self.refuses:
            usable = Message("the data can be used ({n:,} warnings)", n=len(self.warnings))
            return say(usable if self.warnings else Message("the data are clean"))
        return say(
            Message("refused: {n:,} errors; repair them, or leave those rows out with --skip-bad", n=len(self.errors))
        )


def _balance(counts: Mapping[str, int]) -> str:
    total = sum(counts.values()) or 1
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{label} {count:,} ({100 * count / total:.0f}%)" for label, count in shown[:10])
    return text + (say(Message(" and {n} more labels", n=len(shown) - 10)) if len(shown) > 10 else "")


def clean(tables: Mapping[str, Table], report: CheckReport) -> tuple[dict[str, Table], dict[str, dict[str, int]]]:
    """The tables without the rows that have errors, and split -> kind -> rows dropped.

    A row with several errors counts once, under the first; rows that could not be read count as ``unreadable``.
    """
    reasons: dict[str, dict[str, str]] = {name: {} for name in tables}
    dropped: dict[str, Counter[str]] = {name: Counter() for name in tables}
    for problem in report.errors:
        if problem.split in tables and problem.row_id:
            reasons[problem.split].setdefault(problem.row_id, problem.kind)
        elif problem.split in tables and problem.kind == "unreadable":
            dropped[problem.split][problem.kind] += 1
    kept = {}
    for name, table in tables.items():
        dropped[name].update(reasons[name].values())
        kept[name] = table.with_rows(row for row in table.rows if row.id not in reasons[name])
    return kept, {name: dict(count) for name, count in dropped.items()}
