"""Train, dev and test: made with a seed, and written down so that a later run can tell whether they are the same."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from foreword.data.quality.unicode import normalise
from foreword.data.table import Table
from foreword.data.task.columns import target_texts
from foreword.errors import DataError, SettingsError
from foreword.messages import Message

_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Splits:
    """Three tables. A split that was asked for with 0 rows is an empty table."""

    train: Table
    dev: Table
    test: Table

    def tables(self) -> dict[str, Table]:
        """The splits by name, in the order train, dev, test."""
        return {name: getattr(self, name) for name in _SPLITS}


def split(
    table: Table,
    *,
    dev: float | int = 0.1,
    test: float | int = 0.2,
    seed: int,
    stratify: bool = True,
    group_duplicates: bool = True,
    group: str | None = None,
) -> Splits:
    """Divide a table at random; the same seed and rows give the same splits on every machine.

    Args:
        dev, test: a share between 0 and 1, or a number of rows (an int from 1); 0: none.
        stratify: give each split the same share of every label (classification only).
        group_duplicates: rows with equal normalised input go to one split, so that no test row was learned from. The
            sizes can then be off by the size of a group.
        group: column; rows with the same value go to one split, instead of those with equal input.

    Raises:
        SettingsError: a share or number that cannot be.
        DataError: a split that was asked for would be empty.
    """
    total = len(table.rows)
    sizes = {"test": _size("test", test, total), "dev": _size("dev", dev, total)}
    if sum(sizes.values()) >= total:
        raise DataError(
            "no rows are left to train on", where=table.name, received=f"{total} rows, {sizes} asked for",
            hint="ask for smaller splits, or give --dev and --test files",
        )  # fmt: skip
    strata = _strata(table, seed, stratify, group_duplicates, group)
    chosen: dict[str, set[int]] = {}
    for name in ("test", "dev"):
        chosen[name] = _draw(strata, sizes[name])
    chosen["train"] = {index for members in strata.values() for group in members for index in group}
    for name in _SPLITS:
        if not chosen[name] and (name == "train" or sizes[name]):
            hint = "give more rows, ask for smaller splits, or give --dev and --test files"
            raise DataError(
                Message("the {name} split would be empty", name=name),
                where=table.name,
                received=f"{total} rows",
                hint=hint,
            )
    return Splits(*(table.with_rows(table.rows[index] for index in sorted(chosen[name])) for name in _SPLITS))


def k_folds(table: Table, count: int, *, seed: int, group: str | None = None) -> list[list[int]]:
    """Divide a table into ``count`` parts of equal size, for cross-validation: the indices of each, in order.

    As in :func:`split`, each has the same share of every label, and equal inputs (or a group's rows) go to one part.

    Raises:
        SettingsError: fewer than two parts, or more than can have rows.
    """
    if count < 2:
        raise SettingsError("cross-validation takes two folds or more", where="folds", received=count)
    parts: list[list[int]] = [[] for _ in range(count)]
    for _, members in sorted(_strata(table, seed, column=group).items()):
        own = [0] * count
        # Large groups first, each to the part with the fewest rows of this label, of all labels where that is a tie.
        for rows in sorted(members, key=len, reverse=True):
            place = min(range(count), key=lambda i: (own[i], len(parts[i]), i))
            own[place] += len(rows)
            parts[place] += rows
    if not all(parts):
        filled = sum(map(bool, parts))
        raise SettingsError(
            "there are too few different rows for so many folds",
            where="folds",
            expected=Message("at most {filled}", filled=filled),
            received=count,
        )
    return [sorted(part) for part in parts]


def _strata(
    table: Table, seed: int, stratify: bool = True, group_duplicates: bool = True, column: str | None = None
) -> dict[str, list[list[int]]]:
    """Label -> its groups of rows, in an order that the seed draws; one stratum where there are no labels."""
    by_label = stratify and table.layout.kind in ("classification", "multilabel")
    counts = (
        Counter(label for row in table.rows for label in target_texts(row, table.layout.target)) if by_label else {}
    )
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in _groups(table, group_duplicates, column):
        label = _stratum(table, group[0], counts) if by_label else ""
        strata[label].append(group)
    dice = random.Random(seed)
    for _, members in sorted(strata.items()):
        dice.shuffle(members)
    return strata


def _stratum(table: Table, index: int, counts: Mapping[str, int]) -> str:
    """A row's label; where it has several, the rarest of them."""
    labels = target_texts(table.rows[index], table.layout.target)
    if table.layout.kind == "classification":
        labels = labels[:1]
    return min(labels, key=lambda label: (counts[label], label), default="")


def _size(name: str, asked: float | int, total: int) -> int:
    if isinstance(asked, bool) or asked < 0 or (isinstance(asked, float) and asked >= 1):
        expected = "a share from 0 to below 1, or a whole number of rows"
        raise SettingsError("not a size of a split", where=name, expected=expected, received=asked)
    return max(1, round(asked * total)) if isinstance(asked, float) and asked else int(asked)


def input_text(table: Table, index: int) -> str:
    """A row's input as one text: its input fields, a line each."""
    row = table.rows[index]
    return "\n".join(str(row.fields.get(name) or "") for name in table.layout.inputs)


def _groups(table: Table, together: bool, column: str | None = None) -> list[list[int]]:
    if column is not None:
        named: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(table.rows):
            named[str(row.fields.get(column))].append(index)
        return list(named.values())
    if not together:
        return [[index] for index in range(len(table.rows))]
    groups: dict[str, list[int]] = defaultdict(list)
    for index in range(len(table.rows)):
        groups[normalise(input_text(table, index))].append(index)
    return list(groups.values())


def _draw(strata: dict[str, list[list[int]]], size: int) -> set[int]:
    """Take groups out of the strata until ``size`` rows are taken, as evenly as whole groups allow."""
    rows = {label: sum(map(len, members)) for label, members in strata.items()}
    total = sum(rows.values())
    exact = {label: size * count / total for label, count in rows.items()} if total else {}
    quota = {label: int(share) for label, share in exact.items()}
    # The rows that rounding down left over go to the labels with the largest remainder, as in an election.
    order = sorted(exact, key=lambda label: (quota[label] - exact[label], label))
    for label in order[: size - sum(quota.values())]:
        quota[label] += 1
    taken: set[int] = set()
    missing = 0
    for label in sorted(strata):
        got = _take(strata[label], quota[label])
        missing += quota[label] - len(got)
        taken |= got
    for label in sorted(strata, key=lambda one: (-sum(map(len, strata[one])), one)) if missing else ():
        got = _take(strata[label], missing)
        missing -= len(got)
        taken |= got
    return taken


def _take(members: list[list[int]], quota: int) -> set[int]:
    """Groups with at most ``quota`` rows together, taken out; the last group of a label stays for training."""
    taken: set[int] = set()
    for group in list(members):
        if len(members) > 1 and len(taken) + len(group) <= quota:
            taken.update(group)
            members.remove(group)
        if len(taken) >= quota:
            break
    return taken


@dataclass(frozen=True)
class SplitLock:
    """One split: its file and the file's sha256, how many rows, the sha256 over their ids, and the ids in order."""

    name: str
    digest: str
    rows: int
    ids_digest: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class DataLock:
    """Which rows were in which split; kept with a run and in the foreword's manifest."""

    splits: dict[str, SplitLock]

    @classmethod
    def of(cls, tables: Mapping[str, Table]) -> DataLock:
        """The lock of some splits by name."""
        locks = {}
        for name, table in tables.items():
            ids = tuple(row.id for row in table.rows)
            locks[name] = SplitLock(table.name, table.digest, len(ids), _digest(ids), ids)
        return cls(locks)

    def to_json(self, *, ids: bool = True) -> dict[str, Any]:
        """A dictionary for JSON. ``ids`` false leaves the lists of ids out (their digest stays)."""
        result = {name: asdict(lock) for name, lock in self.splits.items()}
        for value in result.values():
            value["ids"] = list(value["ids"]) if ids else []
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataLock:
        """The lock from its dictionary.

        Raises:
            DataError: it was not made by ``to_json``, or the ids do not fit their digest.
        """
        locks = {}
        for name, value in data.items():
            try:
                lock = SplitLock(**{**value, "ids": tuple(value["ids"])})
            except (TypeError, KeyError) as error:
                raise DataError("the data lock is damaged", where=name, received=str(error)) from error
            if lock.ids and (_digest(lock.ids) != lock.ids_digest or len(lock.ids) != lock.rows):
                raise DataError("the data lock is damaged", where=name, received="ids that do not fit their digest")
            locks[name] = lock
        return cls(locks)

    def differs(self, other: DataLock) -> list[str]:
        """What is different, for people; [] when both name the same rows in the same order."""
        result = []
        for name in dict.fromkeys((*self.splits, *other.splits)):
            mine, theirs = self.splits.get(name), other.splits.get(name)
            if mine is None or theirs is None:
                result.append(f"{name}: only in {'the other' if mine is None else 'this'} lock")
            elif mine.ids_digest != theirs.ids_digest:
                result.append(f"{name}: {_difference(mine, theirs)}")
        return result


def _digest(ids: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def _difference(mine: SplitLock, theirs: SplitLock) -> str:
    if not mine.ids or not theirs.ids:
        return f"other rows ({mine.rows} in {mine.name}, {theirs.rows} in {theirs.name})"
    gone, new = len(set(mine.ids) - set(theirs.ids)), len(set(theirs.ids) - set(mine.ids))
    if not gone and not new:
        return f"the same {mine.rows} rows in another order"
    return f"{gone} rows are gone and {new} are new ({mine.rows} in {mine.name}, {theirs.rows} in {theirs.name})"
