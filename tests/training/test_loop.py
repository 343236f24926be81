"""The training loop: batches, accumulation, schedule, optimizers, clipping, stopping early, and the best state."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from foreword.core.attention.pass_context import PassContext, current
from foreword.core.inject.value import Foreword
from foreword.data.tokens.examples import Example, batches
from foreword.errors import SettingsError
from foreword.methods.base import registry
from foreword.settings.schema import TrainSettings
from foreword.testing.method_contracts import FAMILIES, reaches, tiny, writer_for
from foreword.training.loop import Evaluated, NotFinite, Score, Step, Trial, advance
from foreword.training.objective import Choose, Classify, Complete, Outputs
from foreword.training.schedule import rate_at, total_steps

LEARNING = [name for name, method in registry().items() if method.learning_rates]


def run(trial: Trial, until: int | None = None) -> list[Any]:
    return list(trial.run(until))


def losses(trial: Trial) -> list[float]:
    return [step.loss for step in trial.progress.steps]


def gradients(trial: Trial) -> list[torch.Tensor]:
    return [p.grad.clone() for p in trial.parameters if p.grad is not None]


# --- batches


@pytest.mark.parametrize(("rows", "size"), [(22, 4), (7, 3), (5, 16), (1, 1), (64, 8)])
def test_each_epoch_has_every_row_once_in_another_order(rows: int, size: int) -> None:
    examples = [Example(str(i), tuple(range(i % 9 + 1)), (), 0, "") for i in range(rows)]
    orders = [batches(examples, size, seed=13, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(i for batch in order for i in batch) == list(range(rows))
        assert len(order) == math.ceil(rows / size)
    if rows > 2 * size:
        assert orders[0] != orders[1] != orders[2]
    assert orders[0] == batches(examples, size, seed=13, epoch=0)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_the_steps_of_an_epoch_see_every_row_once(bench: Any, accumulation: int) -> None:
    trial = bench.trial(gradient_accumulation_steps=accumulation, num_train_epochs=3)
    assert trial.total == 3 * trial.steps_per_epoch
    for epoch in range(3):
        first = epoch * trial.steps_per_epoch
        seen = Counter(i for s in range(first, first + trial.steps_per_epoch) for b in trial.batches(s) for i in b)
        assert seen == Counter(range(len(bench.rows)))


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (22, {"per_device_train_batch_size": 4, "num_train_epochs": 2}, 12),
        (22, {"per_device_train_batch_size": 4, "num_train_epochs": 2, "gradient_accumulation_steps": 4}, 4),
        (22, {"per_device_train_batch_size": 4, "num_train_epochs": 2, "max_steps": 5}, 5),
        (22, {"per_device_train_batch_size": 4, "num_train_epochs": 1, "max_steps": 50}, 50),
        (16, {"num_train_epochs": 0.1}, 1),
        (100, {"per_device_train_batch_size": 10, "num_train_epochs": 0.5}, 5),
    ],
)
def test_total_steps(rows: int, settings: dict[str, Any], steps: int) -> None:
    assert total_steps(rows, TrainSettings(**settings)) == steps


# --- leaving nothing behind


def test_an_unfinished_run_may_be_closed_anywhere(bench: Any) -> None:
    """Whoever drops the generator does not say where it is closed: the collector may do it in another thread."""
    trial = bench.trial()
    events = trial.run()
    next(events)
    assert current() == PassContext()
    problems: list[BaseException] = []

    def close() -> None:
        try:
            events.close()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert not problems


# --- gradients


@pytest.mark.parametrize("method", LEARNING)
def test_accumulated_batches_equal_one_big_batch(bench: Any, method: str) -> None:
    """Also where the last small batch is not full: the mean is over rows, not over batches."""
    small = bench.trial(method=method, per_device_train_batch_size=3, gradient_accumulation_steps=8, max_grad_norm=0)
    big = bench.trial(method=method, per_device_train_batch_size=22, max_grad_norm=0)
    assert next(small.run(1)).loss == pytest.approx(next(big.run(1)).loss, rel=1e-5)
    for got, expected in zip(gradients(small), gradients(big), strict=True):
        assert (got - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_accumulated_completions_are_averaged_over_tokens() -> None:
    """A batch with long completions counts for as many tokens as it has."""
    model = tiny("llama")
    rows = [Example(str(i), (100 + i, 7), tuple(range(60, 61 + 4 * (i % 2) + i)), -1, "") for i in range(6)]
    found = []
    for size, accumulation in ((2, 3), (6, 1)):
        settings = TrainSettings(
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, max_grad_norm=0
        )
        trial = Trial(model, writer_for("prefix", model), Complete(0), rows, settings, 1e-2, lambda _: Score(0, 0))
        found.append((next(trial.run(1)).loss, gradients(trial)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for got, expected in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


def test_gradients_are_clipped_to_the_norm(bench: Any) -> None:
    free, clipped = bench.trial(max_grad_norm=0), bench.trial(max_grad_norm=1e-3)
    before, after = next(free.run(1)), next(clipped.run(1))
    assert before.gradient_norm == pytest.approx(after.gradient_norm)  # told as it was before clipping
    assert before.gradient_norm > 1e-3
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients(clipped)]))
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    whole = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients(free)]))
    assert float(whole) == pytest.approx(before.gradient_norm, rel=1e-5)


def test_gradient_checkpointing_gives_the_same_run(bench: Any) -> None:
    plain, saving = bench.trial(), bench.trial(gradient_checkpointing=True)
    run(plain, 4)
    run(saving, 4)
    assert losses(saving) == pytest.approx(losses(plain), abs=1e-5)
    assert all("forward" not in vars(m) for m in bench.model.modules())


# --- schedule


def test_the_rate_rises_then_falls() -> None:
    settings = TrainSettings(warmup_ratio=0.2)
    rates = [rate_at(step, 10, settings) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] <= 0.2


def test_schedules_by_hand() -> None:
    linear, cosine, constant = (
        TrainSettings(lr_scheduler_type=kind, warmup_ratio=0) for kind in ("linear", "cosine", "constant")
    )
    assert [rate_at(s, 4, linear) for s in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert [rate_at(s, 4, cosine) for s in range(4)] == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-5)
    assert [rate_at(s, 4, constant) for s in range(4)] == [1.0] * 4
    assert rate_at(0, 1, TrainSettings(warmup_ratio=1.0)) == 1.0


def test_steps_carry_the_scheduled_rate(bench: Any) -> None:
    trial = bench.trial(rate=0.5, warmup_ratio=0.25, num_train_epochs=1)
    made = [event.learning_rate for event in run(trial) if isinstance(event, Step)]
    assert made == [0.5 * rate_at(s, trial.total, trial.settings) for s in range(trial.total)]


# --- learning


@pytest.mark.parametrize(("optim", "rate"), [("adamw", 5e-2), ("adam", 5e-2), ("sgd", 5.0), ("rmsprop", 1e-2)])
def test_every_optimizer_learns(bench: Any, optim: str, rate: float) -> None:
    trial = bench.trial(rate, optim=optim, num_train_epochs=6)
    start = bench.score(trial.current()).loss
    run(trial)
    assert bench.score(trial.best()).loss < 0.8 * start, f"{start} -> {losses(trial)}"


@pytest.mark.parametrize("method", LEARNING)
def test_every_method_learns_and_leaves_the_base_alone(bench: Any, method: str) -> None:
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    trial = bench.trial(5e-2, method=method, num_train_epochs=6)
    start = bench.score(trial.current())
    run(trial)
    assert bench.score(trial.best()).loss < 0.9 * start.loss
    assert all(torch.equal(before[name], tensor) for name, tensor in bench.model.state_dict().items())
    assert all(p.grad is None for p in bench.model.parameters())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_step_on_every_family(family: str) -> None:
    """One step of the loop runs and changes the writer, whatever the family and its objective."""
    if not reaches("prefix", family):
        pytest.skip(f"prefix does not reach {family}")
    model = tiny(family)
    rows = [Example(str(i), (30, 31 + i, 32), (60, 61, 2), i % 2, "") for i in range(4)]
    head = family in ("bert", "roberta", "electra", "distilbert", "albert", "modernbert")
    writer = writer_for("prefix", model)
    if head:
        from foreword.methods.base import Start, make, make_writer

        writer = make_writer(make("prefix"), Start(model, "guidance", (7, 11, 23), classes=2))
    for objective in (
        (Classify("mean", model.config.pad_token_id),) if head else (Complete(0), Choose(((5, 6), (7,)), 0))
    ):
        trial = Trial(model, writer, objective, rows, TrainSettings(), 1e-2, lambda _: Score(0.0, 0.0))
        before = trial.current().digest()
        step = next(trial.run(1))
        assert math.isfinite(step.loss)
        assert step.gradient_norm > 0
        assert trial.current().digest() != before


# --- evaluations


def test_evaluations_come_once_an_epoch_or_as_asked(bench: Any) -> None:
    def at(**settings: Any) -> list[int]:
        trial = bench.trial(evaluate=lambda _: Score(0.0, 0.0), **settings)
        return [event.step for event in run(trial) if isinstance(event, Evaluated)]

    assert at() == [6, 12]
    assert at(eval_steps=5) == [5, 10, 12]
    assert at(max_steps=3) == [3]
    assert at(num_train_epochs=1.5) == [6, 9]


def test_the_best_state_is_kept_and_the_current_one_goes_on(bench: Any) -> None:
    scores = iter([Score(0.5, 1.0), Score(0.9, 1.0), Score(0.9, 1.1), Score(0.2, 0.1)])
    seen: list[str] = []

    def evaluate(value: Foreword) -> Score:
        seen.append(value.digest())
        return next(scores)

    trial = bench.trial(evaluate=evaluate, num_train_epochs=4)
    events = [event for event in run(trial) if isinstance(event, Evaluated)]
    assert [event.best for event in events] == [True, True, False, False]
    assert trial.progress.best_step == 12
    assert trial.best().digest() == seen[1]
    assert trial.current().digest() == seen[3]
    assert len(set(seen)) == 4


def test_equal_metrics_are_decided_by_the_loss() -> None:
    assert Score(0.5, 1.0).beats(None)
    assert Score(0.5, 0.9).beats(Score(0.5, 1.0))
    assert not Score(0.5, 1.0).beats(Score(0.5, 1.0))
    assert Score(0.6, 9.0).beats(Score(0.5, 1.0))


def test_training_stops_when_nothing_gets_better(bench: Any) -> None:
    trial = bench.trial(evaluate=lambda _: Score(0.5, 1.0), eval_steps=1, early_stopping_patience=2)
    run(trial)
    assert trial.progress.step == 3  # the first is the best, two without a gain follow
    assert trial.done
    assert trial.progress.stopped
    assert run(trial) == []


def test_patience_counts_from_the_last_gain(bench: Any) -> None:
    scores = iter([0.5, 0.4, 0.6, 0.5, 0.5, 0.9])
    trial = bench.trial(evaluate=lambda _: Score(next(scores), 1.0), eval_steps=1, early_stopping_patience=2)
    run(trial)
    assert trial.progress.step == 5
    assert trial.progress.best_step == 3


# --- what is not finite


def test_a_loss_that_is_not_finite_stops_before_it_spoils_anything(bench: Any) -> None:
    trial = bench.trial()
    run(trial, 3)
    before = trial.current().digest()
    objective = trial.objective

    class Broken:
        lead = ()

        def outputs(self, *args: Any) -> Outputs:
            return objective.outputs(*args)

        def losses(self, *args: Any) -> torch.Tensor:
            return objective.losses(*args) * float("nan")

    trial.objective = Broken()  # type: ignore[assignment]
    with pytest.raises(NotFinite, match="step 4 is not finite"):
        run(trial)
    assert trial.current().digest() == before
    assert trial.progress.step == 3


@pytest.mark.parametrize("score", [Score(0.5, math.nan), Score(0.5, math.inf), Score(math.nan, 1.0)])
def test_an_evaluation_that_is_not_finite_is_no_best_state(bench: Any, score: Score) -> None:
    """A last step can spoil the values although its own loss was finite; what is kept must be finite."""
    trial = bench.trial(evaluate=lambda _: score)
    with pytest.raises(NotFinite):
        run(trial)
    assert trial.progress.best is None
    assert not trial.best_state


def test_settings_reach_the_optimizer(bench: Any) -> None:
    group = bench.trial(optim="sgd", momentum=0.3, weight_decay=0.2).optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.3, 0.2)
    trial = bench.trial(0.0625, lr_scheduler_type="constant", warmup_ratio=0)
    run(trial, 1)
    assert trial.optimizer.param_groups[0]["lr"] == 0.0625
    assert replace(trial.settings, optim="rmsprop").optim == "rmsprop"


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(("optim", "rate"), [("adamw", 1e-2), ("adam", 1e-2), ("sgd", 1e-1), ("rmsprop", 3e-3)])
def test_every_optimizer_trains_weights(bench: Any, method: str, optim: str, rate: float) -> None:
    trial = bench.trial(rate, method=method, optim=optim, num_train_epochs=6)
    run(trial)
    first, last = trial.first_and_last_loss()
    assert last < 0.9 * first, (method, optim)


def test_lower_layers_move_less(bench: Any) -> None:
    trial = bench.trial(1e-2, method="full", optim="sgd", momentum=0.0, layerwise_decay=0.5, max_grad_norm=0)
    shares = [(group["share"], len(group["params"])) for group in trial.optimizer.param_groups]
    assert [share for share, _ in shares] == [1.0, 0.5, 0.25, 0.125]
    # The embedding, nine weights a layer, and with the last layer the norm and the output layer behind it.
    assert [count for _, count in shares] == [11, 9, 9, 1]
    before = [p.detach().clone() for p in trial.parameters]
    run(trial, 1)
    depth = {id(p): trial.writer.layers.get(n, 2) for n, p in trial.writer.named_parameters()}
    rate = trial.progress.steps[0].learning_rate
    for parameter, start in zip(trial.parameters, before, strict=True):
        step = rate * 0.5 ** (2 - depth[id(parameter)])
        torch.testing.assert_close(start - parameter.detach(), step * parameter.grad, atol=1e-6, rtol=1e-3)


def test_layers_are_refused_where_there_are_none(bench: Any) -> None:
    with pytest.raises(SettingsError, match="layers"):
        bench.trial(method="prompt", layerwise_decay=0.9)


def test_a_pull_to_the_start_is_the_gradient_of_the_distance(bench: Any) -> None:
    plain, pulled = bench.trial(), bench.trial(pull_to_start=0.5)
    start = [p.detach().clone() for p in pulled.parameters]
    for trial in (plain, pulled):
        with torch.no_grad():
            for parameter in trial.parameters:
                parameter += 0.01
        run(trial, 1)
    for a, b, first in zip(gradients(plain), gradients(pulled), start, strict=True):
        torch.testing.assert_close(b - a, 0.5 * torch.full_like(first, 0.01), atol=1e-5, rtol=0)


def test_a_strong_pull_keeps_training_near_the_start(bench: Any) -> None:
    distances = []
    for strength in (0.0, 20.0):
        trial = bench.trial(1e-2, method="full", optim="sgd", pull_to_start=strength, max_grad_norm=0)
        start = [p.detach().clone() for p in trial.parameters]
        run(trial)
        moved = zip(trial.parameters, start, strict=True)
        distances.append(sum(float((p.detach() - s).pow(2).sum()) for p, s in moved))
    assert distances[1] < 0.5 * distances[0]


def test_rows_of_other_weights_do_not_meet_in_a_pass(bench: Any) -> None:
    alone = [bench.trial(rate, method="full") for rate in (1e-3, 1e-2)]
    for trial in alone:
        run(trial, 3)
    together = [bench.trial(rate, method="full") for rate in (1e-3, 1e-2)]
    list(advance(together, 3))
    assert [losses(t) for t in together] == [losses(t) for t in alone]
