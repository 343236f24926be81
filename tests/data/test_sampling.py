"""Orders of the training rows: what each promises, and that seed and epoch alone decide."""

from __future__ import annotations

from collections import Counter

import pytest

from foreword.data.quality.row_sampling import TrainingRows, refuse_sampling
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.tokens.examples import Example, batches
from foreword.errors import SettingsError

ROWS = [Example(str(i), tuple(range(1 + (i * 7) % 40)), (), int(i % 10 == 0), "") for i in range(50)]


def flat(course: TrainingRows, epoch: int = 0, seed: int = 1) -> list[int]:
    return [index for batch in course.batches(8, seed, epoch) for index in batch]


def test_shuffled_is_what_batches_gives() -> None:
    assert TrainingRows(ROWS).batches(8, 1, 2) == batches(ROWS, 8, seed=1, epoch=2)
    assert TrainingRows(ROWS).row(0, 3) is ROWS[3]


@pytest.mark.parametrize("sampling", ["shuffle", "balanced", "difficulty", "length"])
def test_seed_and_epoch_decide_and_every_epoch_has_as_many_batches(sampling: str) -> None:
    course = TrainingRows(ROWS, sampling, [float((i * 3) % 50) for i in range(50)])
    assert course.batches(8, 1, 0) == course.batches(8, 1, 0)
    assert course.batches(8, 1, 0) != course.batches(8, 1, 1)
    assert course.batches(8, 1, 0) != course.batches(8, 2, 0)
    assert {len(course.batches(8, 1, epoch)) for epoch in range(5)} == {7}
    if sampling != "balanced":
        assert sorted(flat(course)) == list(range(50))


def test_balanced_draws_each_label_equally_often() -> None:
    drawn = flat(TrainingRows(ROWS, "balanced"))
    assert Counter(ROWS[index].gold for index in drawn) == {0: 25, 1: 25}
    assert set(Counter(i for i in drawn if ROWS[i].gold == 1).values()) == {5}  # five rows, each five times
    assert max(Counter(i for i in drawn if ROWS[i].gold == 0).values()) == 1


def test_from_easy_to_hard_and_from_short_to_long() -> None:
    difficulty = [float((i * 3) % 50) for i in range(50)]
    order = [difficulty[index] for index in flat(TrainingRows(ROWS, "difficulty", difficulty))]
    assert sum(order[:25]) < 0.6 * sum(order[25:])
    lengths = [len(ROWS[index].input_ids) for index in flat(TrainingRows(ROWS, "length"))]
    assert max(lengths[:10]) < min(lengths[-10:])


def test_rows_in_another_form() -> None:
    other = Example("0", (1,), (), 0, "")
    course = TrainingRows(ROWS, vary=lambda epoch, index: other if (epoch, index) == (1, 4) else None)
    assert course.row(1, 4) is other
    assert course.row(0, 4) is ROWS[4]


def test_orders_that_rows_do_not_have_are_refused() -> None:
    pairs = make_task(read([{"prompt": "a", "completion": "b"}]))
    labels = make_task(read([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]), head=True)
    with pytest.raises(SettingsError, match="balanced"):
        refuse_sampling("balanced", pairs)
    with pytest.raises(SettingsError, match="head"):
        refuse_sampling("difficulty", labels)
    refuse_sampling("difficulty", pairs)
    refuse_sampling("balanced", labels)
