"""No winner's curse: prompts that are equally good show no gain on rows that the search never saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest

from foreword.data.row import Row, Source
from foreword.errors import DataError
from foreword.evaluation.predictions import Prediction
from foreword.runs.train.dev_score import score_of
from foreword.studies.prompts.successive_halving import Answer, fair_order
from foreword.studies.prompts.variant import Variant
from foreword.studies.search.held_out import Gain, Pool, gain, make_pool
from foreword.studies.search.rounds import Played, Rules, State, play
from foreword.training.loop import Score


def scored(found: Sequence[Prediction]) -> Score:
    return score_of("accuracy", found)


def coin(accuracy: Callable[[str], float], seed: int, golds: Sequence[str]) -> Answer:
    """Answers that are right by a coin of each prompt's and row's own."""

    @cache
    def drawn(name: str) -> list[bool]:
        dice = random.Random(f"{seed}/{name}")
        return [dice.random() < accuracy(name) for _ in golds]

    def answer(variant: Variant, rows: Sequence[int]) -> list[Prediction]:
        found = []
        for row in rows:
            right = drawn(variant.name)[row]
            output = golds[row] if right else "b" if golds[row] == "a" else "a"
            found.append(Prediction(f"r{row}", "", output, golds[row], -0.5, scores={golds[row]: -0.5}))
        return found

    return answer


class Copies:
    """A proposer of prompts that are all the same to the coin."""

    name = "copies"

    def __call__(self, state: State, wanted: int) -> list[Variant]:
        return [state.best.made("copies", f"copy {n}", guidance=f"{state.round}.{n}") for n in range(wanted)]


def searched(accuracy: Callable[[str], float], seed: int, rows: int = 160, rounds: int = 2) -> tuple[Played, Gain]:
    golds = ["ab"[row % 2] for row in range(rows)]
    held, search = range(rows // 2), [rows // 2 + place for place in fair_order(golds[rows // 2 :], seed)]
    answer, start = coin(accuracy, seed, golds), Variant("", "{{ text }}", {"a": "a", "b": "b"}, name="start")
    played = play(start, [], [Copies()], Rules(answer, scored, search, rounds, 8, seed))
    if played.champion.name == "start":
        return played, Gain("accuracy")
    made = [(answer(one, list(held)), answer(one, search)) for one in (played.champion, start)]
    return played, gain("accuracy", *made)


def test_identical_prompts_show_no_gain_beyond_noise() -> None:
    found = [searched(lambda name: 0.7, seed)[1] for seed in range(300)]
    won = [one for one in found if one.honest is not None and one.optimistic is not None]
    assert len(won) > 260  # with 16 copies somebody is nearly always ahead by chance
    honest = [one.honest.estimate for one in won if one.honest]
    optimistic = [one.optimistic.estimate for one in won if one.optimistic]
    assert abs(sum(honest) / len(honest)) < 0.01
    assert sum(optimistic) / len(optimistic) > 0.06  # this is what would have been shown otherwise
    assert sum(one.found for one in found) <= 0.05 * len(found)
    assert "No gain beyond noise" in next(one for one in won if not one.found and not one.lost).sentence()


def test_a_better_prompt_is_found_and_said() -> None:
    found = [searched(lambda name: 0.9 if name == "copies-1.4" else 0.6, seed) for seed in range(20)]
    assert sum(played.champion.name == "copies-1.4" for played, _ in found) >= 18
    assert sum(one.found for _, one in found) >= 18
    played, one = found[0]
    assert played.rounds[1].change == "copy 3"
    assert "beats yours by" in one.sentence()
    assert one.to_json()["honest"]["rows"] == 80


def test_copies_of_the_users_prompt_are_asked_once() -> None:
    start = Variant("Say a or b.", "{{ text }}", {"a": "a", "b": "b"}, name="start")
    copies = [replace(start, name=f"copy-{n}") for n in range(3)]
    answer = coin(lambda name: 0.7, 1, ["a", "b"] * 20)
    played = play(start, copies, [], Rules(answer, scored, list(range(40)), 0, 8, 1))
    assert list(played.places) == ["start"]
    assert Gain("accuracy").sentence().startswith("Keep your prompt")


def rows_of(count: int, name: str) -> list[Row]:
    return [Row(f"{name}-{n}", {"text": str(n), "label": "ab"[n % 2]}, Source(name, n)) for n in range(count)]


def pooled(train: int, dev: int, rows: int = 40) -> Pool:
    return make_pool(rows_of(train, "train"), rows_of(dev, "dev"), "label", rows=rows, held=0.5, seed=3)


def test_search_and_held_rows_are_apart_and_balanced() -> None:
    pool = pooled(100, 10)
    assert not set(pool.search) & set(pool.held)
    assert sorted((*pool.search, *pool.held)) == list(range(40))
    assert pool.borrowed == 30
    assert not {row.id for row in pool.rows} & {row.id for row in pool.shown}
    for part in (pool.search, pool.held):
        assert sum(pool.rows[index].fields["label"] == "a" for index in part) == pytest.approx(len(part) / 2, abs=2)
    assert pool == pooled(100, 10)


def test_a_large_dev_is_enough_and_a_small_one_borrows_at_most_half() -> None:
    assert pooled(100, 60).borrowed == 0
    assert len(pooled(100, 60).rows) == 40
    assert pooled(20, 6).borrowed == 10
    with pytest.raises(DataError, match="too few rows"):
        pooled(2, 2)


def test_beginnings_of_a_fair_order_are_fair() -> None:
    golds = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    order = fair_order(golds, 5)
    assert sorted(order) == list(range(100))
    assert [golds[i] for i in order[:50]].count("a") == pytest.approx(30, abs=2)
    assert [golds[i] for i in order[:50]].count("c") == pytest.approx(5, abs=1)
