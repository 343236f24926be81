"""Rows that belong together: by a column, or because they are nearly the same."""

from __future__ import annotations

import pytest

from foreword.data.quality.split import k_folds, split
from foreword.data.readers.read import read
from foreword.data.table import Table
from foreword.errors import SettingsError
from foreword.evaluation.predictions import Prediction, groups_of
from foreword.evaluation.report.summary import compare, evaluate
from foreword.runs.prepare.row_groups import row_groups

WORDS = "river cat mountain piano garden window bottle summer letter engine".split()


def table(texts: list[str]) -> Table:
    return read([{"text": t, "label": "ab"[n % 2], "user": f"u{n // 4}"} for n, t in enumerate(texts)])


def test_a_column_makes_groups_and_keeps_them_in_one_split() -> None:
    rows = table([f"{WORDS[n % 10]} number {n}" for n in range(80)])
    parts = split(rows, dev=0.2, test=0.2, seed=1, group="user").tables()
    users = [{str(row.fields["user"]) for row in part.rows} for part in parts.values()]
    assert not users[0] & users[1]
    assert not users[0] & users[2]
    assert not users[1] & users[2]
    groups = row_groups(parts, "user")
    assert len(groups) == 80
    assert len(set(groups.values())) == 20
    for part in k_folds(rows, 4, seed=1, group="user"):
        assert len({str(rows.rows[index].fields["user"]) for index in part}) == len(part) / 4
    with pytest.raises(SettingsError, match="no group"):
        row_groups(parts, "document")


def test_near_duplicates_are_groups_where_there_are_many() -> None:
    long = [" ".join(WORDS[n:] + WORDS[:n]) + f" and the story of {WORDS[n]} {n}{n}" for n in range(10)]
    repeated = table([text + mark for text in long for mark in ("", "!", " ", ".")])
    groups = row_groups({"test": repeated}, None)
    assert len(set(groups.values())) == 10
    assert row_groups({"test": table(long)}, None) == {}
    assert row_groups({"train": repeated}, None) == {}


def test_figures_say_how_many_rows_are_independent() -> None:
    rows = [Prediction(str(n), "", "a" if n // 5 % 3 else "b", "a", group=f"g{n // 5}") for n in range(60)]
    others = [Prediction(p.id, "", "a", "a", group=p.group) for p in rows]
    assert groups_of(rows) == [p.group for p in rows]
    assert groups_of([Prediction("1", "", "a", "a")]) is None
    assert Prediction.from_json(rows[0].to_json()) == rows[0]
    difference = compare(others, rows, "accuracy", n=500)
    assert difference.interval.groups == 12
    assert difference.test == "approximate-randomisation"
    alone = evaluate([Prediction(p.id, "", p.output, p.gold) for p in rows], "classification")["metrics"]["accuracy"]
    figure = evaluate(rows, "classification")["metrics"]["accuracy"]
    assert figure["high"] - figure["low"] > 1.5 * (alone["high"] - alone["low"])
