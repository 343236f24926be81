"""Training on the first k tokens of an input: k must cut something, or it says nothing."""

from __future__ import annotations

from collections.abc import Sequence

from foreword.data.table import Table
from foreword.data.task.task import Task
from foreword.data.task.template import Template
from foreword.data.tokens.examples import Example
from foreword.errors import SettingsError


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
            f"no word lies within the first {first_k} tokens, so there is nothing to tag",
            where="--input-prefix",
            expected="as many tokens as the first words have",
            received=first_k,
        )


def _too_long(first_k: int, received: str) -> SettingsError:
    return SettingsError(
        f"the first {first_k} tokens are the whole of every input",
        where="--input-prefix",
        expected="fewer tokens than the longest field has",
        received=received,
        hint="choose a smaller k, or leave it out to use whole inputs",
    )
