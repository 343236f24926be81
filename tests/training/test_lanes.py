"""Rows in two lanes: the step of one lane, whatever the family, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from foreword.core import attention
from foreword.core.inject import injected
from foreword.data.batch import Example
from foreword.methods.base import Start, make, make_writer, registry
from foreword.testing import TEXT, reaches, tiny, writer_for
from foreword.training import lanes as room
from foreword.training.group import train_all
from foreword.training.lanes import lanes, side_by_side
from foreword.training.objective import Choose, Classify, Complete
from foreword.training.passes import Share, backward

from .conftest import make_rows, slotted

LEARNING = [name for name, method in registry().items() if method.learning_rates]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lanes for everything that may have them, however small."""
    monkeypatch.setattr(room, "_WORTH", 0.0)


def gradients(model: Any, shares: list[Share], apart: bool) -> tuple[list[Any], list[torch.Tensor]]:
    parameters = [p for share in shares for p in share.writer.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    with injected(model) as injection:
        totals = backward(model, injection, shares, apart=apart)
    return [(t.loss, t.units) for t in totals], [p.grad.clone() for p in parameters if p.grad is not None]


def assert_same(model: Any, shares: list[Share]) -> None:
    totals, alone = gradients(model, shares, False)
    again, both = gradients(model, shares, True)
    for (loss, units), (loss2, units2) in zip(totals, again, strict=True):
        assert units2 == units
        assert loss2 == pytest.approx(loss, rel=1e-5)
    for a, b in zip(alone, both, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "deepseek_v3", "t5", "bert", "albert"])
def test_two_lanes_make_the_step_of_one(family: str, forced: None) -> None:
    model = tiny(family)
    encoder = family in ("bert", "albert")
    writer = make_writer(make("prefix"), Start(model, "guidance", TEXT, classes=2 if encoder else 0))
    objective = Classify("mean", 0) if encoder else Choose(((40, 41), (50,)), 0)
    share = Share(writer, objective, [make_rows(9), make_rows(5, seed=2)])
    assert_same(model, [share])


@pytest.mark.parametrize("method", [name for name in LEARNING if name != "full"])
def test_every_method_and_several_at_once(method: str, forced: None) -> None:
    model = tiny("llama")
    if not reaches(method, "llama"):
        pytest.skip("not for decoders")
    shares = []
    for seed in (1, 2):
        writer = writer_for(method, model)
        shares.append(
            Share(writer, Choose(((40, 41), (50,)), 0), [slotted(writer.write().detach(), make_rows(6, seed))])
        )
    assert_same(model, shares)


def test_threads_that_begin_and_end_passes_all_the_time_do_not_disturb_each_other(forced: None) -> None:
    """Each pass puts its hooks on the model they share, and takes them away."""
    model = tiny("llama")
    share = Share(writer_for("prefix", model), Choose(((40, 41), (50,)), 0), [make_rows(4)])
    _, alone = gradients(model, [share], False)
    for _ in range(60):
        _, both = gradients(model, [share], True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, both, strict=True))


def test_completions(forced: None) -> None:
    rows = [Example(str(i), (100 + i, 7), tuple(range(60, 61 + i)), -1, "") for i in range(6)]
    model = tiny("llama")
    assert_same(model, [Share(writer_for("prefix", model), Complete(0), [rows])])


def test_a_run_in_lanes_is_repeatable_and_leaves_nothing(bench: Any, forced: None) -> None:
    digests = []
    for _ in range(2):
        trial = bench.trial()
        train_all([trial])
        digests.append(trial.current().digest())
    assert digests[0] == digests[1]
    assert torch.get_num_threads() == 2
    assert attention.sources() == ()


def test_lanes_have_like_work_and_small_steps_have_one() -> None:
    model, rows = tiny("llama"), make_rows(10)
    assert len(lanes(model, rows, 1)) == 1  # a tiny model: the interpreter is what it waits for


def test_work_is_shared_out(forced: None) -> None:
    model, rows = tiny("llama"), make_rows(40)
    found = lanes(model, rows, 1)
    assert sorted(e.id for lane in found for e in lane) == sorted(e.id for e in rows)
    work = [sum(len(e.input_ids) for e in lane) for lane in found]
    assert len(work) == 2
    assert max(work) - min(work) <= max(len(e.input_ids) for e in rows)
    assert max(len(e.input_ids) for e in found[0]) <= min(len(e.input_ids) for e in found[1])
    assert len(lanes(model, rows[:1], 1)) == 1
    assert len(lanes(model, rows, sum(p.numel() for p in model.parameters()))) == 1
    torch.set_num_threads(1)
    assert len(lanes(model, rows, 1)) == 1


def test_an_error_of_a_lane_is_raised_when_both_have_ended() -> None:
    ended = threading.Event()

    def fail() -> None:
        raise RuntimeError("out of memory")

    def work() -> None:
        threading.Event().wait(0.1)
        ended.set()

    with pytest.raises(RuntimeError, match="out of memory"):
        side_by_side([fail, work])
    assert ended.is_set()
    assert torch.get_num_threads() == 2
