"""Trials side by side: each ends as it would alone, whatever happens to the others, and a kill leaves them together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example
from foreword.methods.base import Start, make, make_writer
from foreword.settings.schema import TrainSettings
from foreword.testing.method_contracts import TEXT, tiny
from foreword.training import checkpoint
from foreword.training.loop import Evaluated, Score, Step, Trial
from foreword.training.lr_search import search
from foreword.training.objective import Choose, Classify, Complete, Objective, Tag, joined
from foreword.training.side_by_side import side_by_side, train_all

WORDS = Choose(((40, 41), (50,)), 0)
SETTINGS = TrainSettings(
    per_device_train_batch_size=3, num_train_epochs=2, gradient_accumulation_steps=2, early_stopping_patience=0
)


def rows(count: int = 8, seed: int = 0) -> list[Example]:
    dice = random.Random(seed)

    def ids(least: int, most: int) -> tuple[int, ...]:
        return tuple(dice.randrange(3, 250) for _ in range(dice.randrange(least, most)))

    return [Example(str(i), ids(2, 9), ids(1, 4), i % 2, "ab"[i % 2]) for i in range(count)]


def tagged(count: int = 8) -> list[Example]:
    """Rows with a tag at every second token; the last word of each was cut off, and one tag is none of the task's."""

    def one(row: Example) -> Example:
        places = (*range(0, len(row.input_ids), 2), -1)
        return replace(row, target_ids=(), places=places, tags=tuple(-1 if p == 4 else p // 2 % 2 for p in places))

    return [one(row) for row in rows(count)]


class Counted:
    """A dev score that depends on the values only; no model is asked."""

    def __call__(self, value: Foreword) -> Score:
        return Score(0.5, sum(float(t.float().pow(2).sum()) for t in value.tensors().values()))


def trial(model: Any, method: str = "prefix", objective: Objective = WORDS, rate: float = 2e-2, **given: Any) -> Trial:
    head = isinstance(objective, Classify | Tag)
    start = Start(model, "g", given.pop("text", TEXT), seed=given.pop("seed", 1), classes=2 if head else 0)
    data = given.pop("rows", None) or rows()
    return Trial(model, make_writer(make(method), start), objective, data, replace(SETTINGS, **given), rate, Counted())


def same(got: Trial, expected: Trial) -> None:
    assert [s.step for s in got.progress.steps] == [s.step for s in expected.progress.steps]
    for one, other in zip(got.progress.steps, expected.progress.steps, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.learning_rate == other.learning_rate
    found, wanted = got.current().tensors(), expected.current().tensors()
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, atol=1e-5 * max(1.0, float(tensor.abs().max()))), name


def both(make_trials: Callable[[], list[Trial]]) -> list[Trial]:
    """The trials side by side, each compared with itself alone."""
    together, alone = make_trials(), make_trials()
    assert train_all(together) == [None] * len(together)
    for one, other in zip(together, alone, strict=True):
        list(other.run())
        same(one, other)
    return together


def objective_for(model: Any, method: str) -> Objective:
    return Classify("mean", 0) if find_sites(model).kind == "encoder" else WORDS


@pytest.mark.parametrize("method", ["prefix", "prompt", "ptuning"])
@pytest.mark.parametrize("family", ["llama", "gemma3", "bert", "t5"])
def test_rates_side_by_side_end_as_alone(family: str, method: str) -> None:
    model = tiny(family)
    objective = objective_for(model, method)
    both(lambda: [trial(model, method, objective, rate, num_train_epochs=1) for rate in (1e-2, 5e-2, 2e-2)])


@pytest.mark.parametrize("family", ["bert", "llama", "lstm"])
def test_taggers_side_by_side_end_as_alone(family: str) -> None:
    model = tiny(family)
    made = both(lambda: [trial(model, "prefix", Tag(0), rate, rows=tagged(), seed=3) for rate in (1e-2, 5e-2)])
    assert not torch.equal(*(one.current().head["weight"] for one in made))


def test_seeds_rows_lengths_batches_and_schedules_may_differ() -> None:
    model = tiny("llama")

    def trials() -> list[Trial]:
        return [
            trial(model, rows=rows(8), seed=3),
            trial(
                model, rows=rows(5, seed=2), text=TEXT[:3], per_device_train_batch_size=2, lr_scheduler_type="cosine"
            ),
            trial(model, "prompt", replace(WORDS, lead=(5, 6)), optim="sgd", max_steps=2),
            trial(model, "ptuning", gradient_accumulation_steps=1, num_train_epochs=1),
        ]

    made = both(trials)
    assert len({one.progress.step for one in made}) > 1  # those that end leave the batch


def test_other_tasks_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    passes: list[tuple[tuple[int, ...], ...]] = []
    real = Choose.outputs

    def outputs(self: Choose, *args: Any) -> Any:
        passes.append(self.choices)
        return real(self, *args)

    monkeypatch.setattr(Choose, "outputs", outputs)
    other = Choose(((60,), (50,), (61, 62)), 0, lead=(9,))
    train_all([trial(model, max_steps=1), trial(model, objective=other, max_steps=1)])
    assert passes[0] == ((40, 41), (50,), (60,), (61, 62))
    both(lambda: [trial(model, objective=one) for one in (WORDS, other)])


def test_objectives_that_share_no_pass_train_beside_each_other_all_the_same() -> None:
    model = tiny("llama")
    both(lambda: [trial(model, objective=one) for one in (WORDS, Complete(0), Classify("last", 0))])


def test_changed_weights_have_passes_of_their_own() -> None:
    model = tiny("llama")
    methods = ("full", "lora", "prefix", "full")
    both(lambda: [trial(model, method, rate=1e-3, num_train_epochs=1) for method in methods])


def test_which_objectives_share_a_pass() -> None:
    assert joined([WORDS, replace(WORDS, lead=(1, 2))]) == WORDS
    assert joined([Complete(0, (1,)), Complete(0)]) == Complete(0)
    assert joined([WORDS, Complete(0)]) is None
    assert joined([WORDS, replace(WORDS, fill=1)]) is None
    assert joined([Classify("mean", 0), Classify("last", 0)]) is None


# --- one that fails


class Spoiled:
    """An objective whose loss is not a number from one step on; what it reads is real, and shared."""

    lead = ()

    def __init__(self, owner: Trial, step: int) -> None:
        self.owner, self.step, self.inner = owner, step, owner.objective

    def outputs(self, *args: Any) -> Any:
        return self.inner.outputs(*args)

    def losses(self, *args: Any) -> torch.Tensor:
        found = self.inner.losses(*args)
        return found * float("nan") if self.owner.progress.step + 1 >= self.step else found

    def with_lead(self, lead: Any) -> Spoiled:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Spoiled, Choose))

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_one_that_is_not_finite_leaves_the_others_as_they_are(order: tuple[int, ...]) -> None:
    model = tiny("llama")
    trials = [trial(model, rate=rate, num_train_epochs=3) for rate in (1e-2, 2e-2, 5e-2)]
    trials[1].objective = Spoiled(trials[1], 3)  # type: ignore[assignment]
    trials = [trials[i] for i in order]
    found = train_all(trials)
    assert [None if f is None else f.step for f in found] == [None, 3, None]
    assert trials[1].progress.step == 2
    for one in (trials[0], trials[2]):
        alone = trial(model, rate=one.learning_rate, num_train_epochs=3)
        list(alone.run())
        same(one, alone)


def test_values_that_are_not_finite_stay_in_their_rows() -> None:
    model = tiny("llama")
    trials = [trial(model, rate=rate) for rate in (1e-2, 2e-2)]
    with torch.no_grad():
        next(trials[0].writer.parameters()).fill_(float("nan"))
    found = train_all(trials)
    assert found[0] is not None
    assert found[1] is None
    alone = trial(model, rate=2e-2)
    list(alone.run())
    same(trials[1], alone)


def test_each_stops_early_by_itself() -> None:
    model = tiny("llama")

    def trials() -> list[Trial]:
        made = [trial(model, rate=r, num_train_epochs=4, eval_steps=1, early_stopping_patience=2) for r in (1e-2, 2e-2)]
        gains = itertools.count()
        made[0].evaluate = lambda value: Score(0.5, 1.0)
        made[1].evaluate = lambda value: Score(next(gains), 1.0)
        return made

    first, second = both(trials)
    assert first.progress.stopped
    assert first.progress.step == 3 < second.progress.step


# --- stop anywhere and go on


class Killed(BaseException):
    """A kill: nothing is tidied up."""


RATES = (1e-2, 5e-2, 2e-2)


def swept(
    model: Any, folder: Path, stop: Callable[[int], bool] = lambda count: False, how: str = "kill", together: int = 3
) -> dict[str, Any]:
    count = 0

    def on_event(one: Trial, event: Step | Evaluated) -> None:
        nonlocal count
        count += 1
        if how == "kill" and stop(count):
            raise Killed

    def interrupted() -> bool:
        return how == "interrupt" and stop(count + 1)

    def new(rate: float) -> Trial:
        made = trial(model, rate=rate, save_steps=2, num_train_epochs=4, eval_steps=3)
        if rate == 5e-2:
            made.objective = Spoiled(made, 2)  # type: ignore[assignment]
        return made

    found = search(RATES, new, folder, on_event, interrupted, together)
    assert found.trial is not None
    return {
        "digest": found.trial.current().digest(),
        "progress": found.trial.progress,
        "outcomes": [(o.learning_rate, o.steps, o.score, o.failure) for o in found.results],
        "events": count,
    }


@pytest.mark.parametrize("how", ["kill", "interrupt"])
@pytest.mark.parametrize("together", [2, 3])
def test_stop_and_go_on_side_by_side_is_bit_equal(tmp_path: Path, how: str, together: int) -> None:
    model = tiny("llama")
    whole = swept(model, tmp_path / "whole", together=together)
    events = whole.pop("events")
    assert [failure for _, _, _, failure in whole["outcomes"]].count(None) == 2
    for stop in range(1, events, 5):
        folder = tmp_path / str(stop)
        with pytest.raises((Killed, KeyboardInterrupt)):
            swept(model, folder, lambda count, stop=stop: count >= stop, how, together)  # type: ignore[misc]
        again = swept(model, folder, together=together)
        again.pop("events")
        assert again == whole, f"stopped at event {stop}"


def test_a_kill_while_the_set_is_saved_leaves_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    whole = swept(model, tmp_path / "whole")
    whole.pop("events")
    real = Path.replace
    for stop in range(1, 12, 2):
        folder, count = tmp_path / str(stop), 0

        def replace_(self: Path, target: Path, stop: int = stop) -> Path:
            nonlocal count
            count += 1
            if count == stop:
                raise Killed
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_)
            with pytest.raises(Killed):
                swept(model, folder)
        again = swept(model, folder)
        again.pop("events")
        assert again == whole, f"killed at move {stop}"


def test_saving_leaves_nothing_beside_the_checkpoints(tmp_path: Path) -> None:
    model = tiny("llama")
    trials = [trial(model, rate=rate) for rate in RATES]
    paths = [tmp_path / str(rate) / "checkpoint.safetensors" for rate in RATES]
    train_all(trials, until=2, paths=paths)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(paths)
    again = trial(model, rate=RATES[0])
    assert checkpoint.load(again, paths[0])
    assert again.current().digest() == trials[0].current().digest()


def test_how_many_train_side_by_side() -> None:
    short = [Example(str(i), (5,) * 20, (), 0, "a") for i in range(100)]
    settings = TrainSettings(per_device_train_batch_size=8)
    assert side_by_side(short, settings, 4) == 4
    assert side_by_side(short, settings, 9) == 9
    assert side_by_side([replace(row, input_ids=(5,) * 200) for row in short], settings, 4) == 1
    assert side_by_side(short, replace(settings, side_by_side="off"), 4) == 1
    assert side_by_side(short, replace(settings, side_by_side="on"), 9) == 9
