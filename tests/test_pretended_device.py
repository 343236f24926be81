"""Without a GPU: what runs on a pretended device equals the CPU, and a step waits for its loss only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foreword.core.base.device import tensor_on
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.methods.base import Start, make, make_writer, registry
from foreword.settings.schema import TrainSettings
from foreword.testing import FAMILIES, tiny
from foreword.testing.device_contracts import check_device
from foreword.testing.head_contracts import model_for, rows
from foreword.testing.method_contracts import TEXT, close, reaches
from foreword.testing.pretended_device import PLACE, Device, OnDevice, on_host, pretended_device
from foreword.training import checkpoint
from foreword.training.heads.base import Head
from foreword.training.heads.base import registry as heads
from foreword.training.heads.completion import Complete
from foreword.training.heads.pooled import Classify
from foreword.training.loop import Score, Trial
from foreword.training.shared_writers import sharing

METHODS = sorted(name for name, kind in registry().items() if kind.learning_rates)
HEADS = [head for kind in heads().values() for head in kind.tried()]
# The loss and the gradient's norm, which every step reports.
REPORTED = ["training/loop.py", "training/step.py"]
SETTINGS = TrainSettings(num_train_epochs=4, per_device_train_batch_size=4, eval_steps=100)


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretended_device():
        there = torch.ones(3).to(PLACE)
        assert there.device == PLACE
        assert torch.equal(on_host(there + there * 2), torch.full((3,), 3.0))
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, generator=torch.Generator(), device=PLACE)


def test_copies_and_waiting_are_counted() -> None:
    with pretended_device() as device:
        there = torch.tensor([1.0, 2.0], device=PLACE)
        assert there.tolist() == [1.0, 2.0]
        assert bool(there.sum() > 0)
        there[there > 1].cpu()
        tensor_on([1, 2], PLACE)
        assert device.events == {"to device": 1, "sync": 3, "to host": 1, "sent ahead": 1}
        device.forget()
        torch.zeros(4, device=PLACE).index_add(0, torch.tensor([0, 1], device=PLACE), there)
        assert device.events["not deterministic"] == 1


def test_outside_of_the_block_torch_is_as_before() -> None:
    before = torch.tensor
    with pretended_device():
        assert torch.tensor is not before
    assert torch.tensor is before
    assert type(torch.ones(2) + 1) is Tensor


# Every method on one family of each kind, every family with a prefix.
KINDS = ("llama", "gpt_oss", "bert", "t5", "lstm")
PAIRS = [
    *((method, family) for method in METHODS for family in KINDS),
    *(("prefix", family) for family in FAMILIES if family not in KINDS),
]


@pytest.mark.parametrize(("method", "family"), PAIRS)
def test_a_method_on_a_device_equals_the_cpu(method: str, family: str) -> None:
    if not reaches(method, family):
        pytest.skip(f"{method} does not reach {family}")
    check_device(method, family)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("prefix", {"reparameterise": True}),
        ("prefix", {"init": "random"}),
        ("ptuning", {"encoder": "lstm"}),
        ("slots", {"encoder": "mlp"}),
        ("prompt", {"init": "random"}),
    ],
)
def test_a_start_drawn_on_the_host_is_the_same_on_a_device(method: str, settings: dict[str, object]) -> None:
    start = make_writer(make(method, settings), Start(tiny("llama"), "g", TEXT, slots=TEXT)).write()
    with pretended_device() as device:
        model = device.moved(tiny("llama"))
        writer = make_writer(make(method, settings), Start(model, "g", TEXT, slots=TEXT, classes=3))
        assert all(isinstance(value, OnDevice) for value in writer.state_dict().values())
        there = writer.write().tensors()
    for name, value in start.tensors().items():
        close(on_host(there[name].detach()), value.detach(), 1e-5, name)


def test_writers_that_share_a_part_share_it_on_the_device() -> None:
    with pretended_device() as device:
        model = device.moved(tiny("llama"))
        writers = [make_writer(make("prefix"), Start(model, "g", text)) for text in (TEXT, TEXT[:3])]
        for writer in sharing(writers):
            assert all(isinstance(value, OnDevice) for value in writer.write().tensors().values())


def trial(head: Head, device: Device | None, method: str = "prefix", family: str = "") -> Trial:
    model = model_for(head, family or ("llama" if "decoder" in head.kinds else "bert"))
    assert model is not None
    batch = [replace(row, input_ids=(*row.input_ids[:1], -1, -2, *row.input_ids[1:])) for row in rows()]
    batch = batch if registry()[method].fills_slots else rows()
    model = model if device is None else device.moved(model)
    start = Start(model, "g", TEXT, seed=1, classes=2 if head.trained else 0, slots=TEXT)
    writer = make_writer(make(method), start)
    return Trial(model, writer, head, batch, SETTINGS, 1e-3, lambda value: Score(0.0, 0.0))


def state(of: Trial) -> dict[str, Tensor]:
    return {name: on_host(value).clone() for name, value in of.tensors().items()}


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_step_on_a_device_equals_the_cpu_and_waits_for_its_loss_only(head: Head) -> None:
    here = trial(head, None)
    losses = [event.loss for event in here.run(3)]  # type: ignore[union-attr]
    with pretended_device() as device:
        there = trial(head, device)
        assert all(isinstance(value, OnDevice) for value in there.writer.parameters())
        list(there.run(2))
        device.forget()
        list(there.run(3))
        waited = waits(device)
        unordered = {name for kind, name, _ in device.where if kind == "not deterministic"}
    assert unordered <= {"index_add"}  # docs/mechanism.md says where
    assert waited == REPORTED
    assert there.progress.steps[-1].loss == pytest.approx(losses[-1], rel=1e-4)
    for name, value in state(here).items():
        close(state(there)[name], value, 1e-4, f"{head}: {name}")


@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_a_method_waits_for_its_loss_only(method: str) -> None:
    with pretended_device() as device:
        there = trial(Complete(0), device, method)
        list(there.run(2))
        device.forget()
        list(there.run(3))
        waited = waits(device)
        unordered = {name for kind, name, _ in device.where if kind == "not deterministic"}
    assert unordered <= {"index_add", *(["embedding_dense_backward"] if method == "full" else [])}
    # Where a soft prompt runs alone, torch's plain attention stands in for a GPU's kernel.
    assert [file for file in waited if file != "core/inject/stack_hooks.py"] == REPORTED


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5", "lstm", "gru", "mistral"])
@pytest.mark.parametrize("method", ["prefix", "slots"])
def test_a_step_of_padded_rows_waits_for_its_loss_only(
    family: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a decoder, whose rows lie end to end where it allows it."""
    monkeypatch.setattr("foreword.core.passes.scoring.packable", lambda model: False)
    kind = find_sites(tiny(family)).kind
    head = Classify("mean", 0) if kind == "encoder" else Complete(0)
    here = trial(head, None, method, family)
    losses = [event.loss for event in here.run(3)]  # type: ignore[union-attr]
    with pretended_device() as device:
        there = trial(head, device, method, family)
        list(there.run(2))
        device.forget()
        list(there.run(3))
        waited = waits(device)
    assert waited == REPORTED
    assert there.progress.steps[-1].loss == pytest.approx(losses[-1], rel=1e-4)


def waits(device: Device) -> list[str]:
    """The files in which the host waited for the device, once for each time."""
    found = [line for kind, _, line in device.where.elements() if kind in ("sync", "to device", "to host")]
    return sorted(line.partition(":")[0] for line in found)


def test_a_checkpoint_of_a_device_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    head = HEADS[0]
    with pretended_device() as device:
        whole, first, second = (trial(head, device, "lora") for _ in range(3))
        list(whole.run(4))
        list(first.run(2))
        checkpoint.save(first, tmp_path / "a" / "checkpoint.safetensors")
        assert checkpoint.load(second, tmp_path / "a" / "checkpoint.safetensors")
        list(second.run(4))
        assert all(isinstance(p, OnDevice) for p in second.writer.parameters())
    for name, value in state(whole).items():
        assert torch.equal(state(second)[name], value), name


def test_a_foreword_of_a_device_has_the_same_digest() -> None:
    value = Foreword("text", torch.ones(2, 32))
    with pretended_device():
        assert value.to(PLACE).digest() == value.digest()
