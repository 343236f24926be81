"""Splits and the data lock."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from foreword.data.quality.split import DataLock, k_folds, split
from foreword.data.quality.unicode import normalise
from foreword.data.readers.read import Table, read
from foreword.errors import DataError, SettingsError


def table(labels: str, **changes: Any) -> Table:
    return replace(read([{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]), **changes)


def counts(part: Table) -> Counter[object]:
    return Counter(row.fields["label"] for row in part.rows)


def test_every_row_is_in_one_split_and_the_labels_keep_their_shares() -> None:
    data = table("a" * 60 + "b" * 30 + "c" * 10)
    parts = split(data, seed=13)
    ids = [row.id for part in parts.tables().values() for row in part.rows]
    assert sorted(ids) == sorted(row.id for row in data.rows)
    assert counts(parts.test) == {"a": 12, "b": 6, "c": 2}
    assert counts(parts.dev) == {"a": 6, "b": 3, "c": 1}
    assert [row.source.line for row in parts.train.rows] == sorted(row.source.line for row in parts.train.rows)


def test_folds_have_every_row_once_and_every_label_evenly() -> None:
    data = table("a" * 60 + "b" * 30 + "c" * 11)
    parts = k_folds(data, 5, seed=13)
    assert sorted(index for part in parts for index in part) == list(range(101))
    for part in parts:
        found = Counter(data.rows[index].fields["label"] for index in part)
        assert (found["a"], found["b"]) == (12, 6)
        assert found["c"] in (2, 3)
    assert parts == k_folds(data, 5, seed=13) != k_folds(data, 5, seed=14)


def test_equal_inputs_are_in_one_fold() -> None:
    texts = [f"text {n // 3}" for n in range(30)]
    data = read([{"text": text, "label": "ab"[int(text[5:]) % 2]} for text in texts])
    for part in k_folds(data, 4, seed=1):
        assert all(texts.count(texts[index]) == sum(texts[i] == texts[index] for i in part) for index in part)


@pytest.mark.parametrize("count", [0, 1, 31])
def test_folds_that_cannot_be(count: int) -> None:
    with pytest.raises(SettingsError) as caught:
        k_folds(table("ab" * 15), count, seed=1)
    assert caught.value.where == "folds"


def test_the_seed_decides() -> None:
    data = table("ab" * 50)
    assert split(data, seed=1) == split(data, seed=1)
    assert split(data, seed=1) != split(data, seed=2)


@pytest.mark.parametrize(
    ("dev", "test", "sizes"),
    [(5, 10, (85, 5, 10)), (0, 0.5, (50, 0, 50)), (0.1, 0, (90, 10, 0)), (0.001, 1, (98, 1, 1))],
)
def test_sizes_as_shares_and_as_numbers(dev: float, test: float, sizes: tuple[int, ...]) -> None:
    for stratify in (True, False):
        parts = split(table("ab" * 50), dev=dev, test=test, seed=1, stratify=stratify)
        assert tuple(map(len, parts.tables().values())) == sizes


@pytest.mark.parametrize("size", [-1, 1.0, 1.5, True])
def test_sizes_that_cannot_be(size: Any) -> None:
    with pytest.raises(SettingsError):
        split(table("ab" * 50), test=size, seed=1)


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match="no rows are left"):
        split(table("ab"), dev=1, test=1, seed=1)
    parts = split(table("aaab"), dev=1, test=1, seed=1)
    assert tuple(map(len, parts.tables().values())) == (2, 1, 1)
    same = read([{"text": "same", "label": "ab"[n % 2]} for n in range(10)])
    with pytest.raises(DataError, match="would be empty"):
        split(same, seed=1)


def test_rare_labels_are_learned_before_they_are_tested() -> None:
    parts = split(table("a" * 97 + "bcd"), seed=3)
    assert {"b", "c", "d"} <= set(counts(parts.train))


def test_equal_texts_never_straddle_splits() -> None:
    rows = [
        {"text": text, "label": "ab"[n % 2]}
        for n in range(40)
        for text in (f"Text {n}!", f"text  {n}", f"ＴＥＸＴ {n}.")
    ]
    for seed in range(5):
        parts = split(read(rows), seed=seed)
        numbers = [{normalise(str(row.fields["text"])) for row in part.rows} for part in parts.tables().values()]
        assert sum(map(len, numbers)) == len(set().union(*numbers)) == 40
        assert sum(map(len, parts.tables().values())) == 120
        assert 18 <= len(parts.test) <= 24
    loose = split(read(rows), seed=1, group_duplicates=False)
    assert len(loose.test) == 24


def test_generation_rows_are_split_without_labels() -> None:
    parts = split(read([{"prompt": f"p {n}", "completion": f"c {n}"} for n in range(10)]), seed=1)
    assert tuple(map(len, parts.tables().values())) == (7, 1, 2)


def test_the_lock_knows_the_rows_again() -> None:
    parts = split(table("ab" * 20), seed=1)
    lock = DataLock.of(parts.tables())
    again = DataLock.from_json(json.loads(json.dumps(lock.to_json())))
    assert again == lock
    assert lock.differs(again) == []
    assert lock.splits["test"].rows == len(parts.test)
    short = DataLock.from_json(lock.to_json(ids=False))
    assert lock.differs(short) == []


def test_the_lock_says_what_is_different() -> None:
    parts = split(table("ab" * 20), seed=1)
    lock = DataLock.of(parts.tables())
    turned = DataLock.of({**parts.tables(), "dev": parts.dev.with_rows(parts.dev.rows[::-1])})
    assert lock.differs(turned) == ["dev: the same 4 rows in another order"]
    fewer = DataLock.of({"train": parts.train.with_rows(parts.train.rows[1:]), "dev": parts.dev})
    assert lock.differs(fewer) == [
        "train: 1 rows are gone and 0 are new (28 in list, 27 in list)",
        "test: only in this lock",
    ]
    damaged = lock.to_json()
    damaged["dev"]["ids"][0] = "x"
    with pytest.raises(DataError, match="damaged"):
        DataLock.from_json(damaged)
    with pytest.raises(DataError, match="damaged"):
        DataLock.from_json({"train": {"ids": []}})
