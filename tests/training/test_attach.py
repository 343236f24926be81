"""Other people's loops: HF Trainer trains an attached foreword, and nothing but it."""

from __future__ import annotations

import copy
import faulthandler
import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from foreword.artifact.store import load
from foreword.core.inject.injection import injected
from foreword.core.inject.value import Foreword
from foreword.errors import ForewordError, UnsupportedBaseError
from foreword.methods.base import registry
from foreword.testing.method_contracts import behind, moved, output, sample_ids, tiny, writer_for
from foreword.training.attach import Attached, attach

LEARNING = [name for name, method in registry().items() if method.learning_rates]


def rows(count: int = 16, value: Foreword | None = None) -> list[dict[str, list[int]]]:
    """Texts that a foreword can say something about: all end alike."""
    return [
        {"input_ids": [*ids, 40, 41, 42], "labels": [-100] * len(ids) + [40, 41, 42]}
        for ids in behind(value, sample_ids(count, 4)).tolist()
    ]


def together(batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}


def trainer_for(model: PreTrainedModel, folder: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_steps": 16, "learning_rate": 0.3, "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 8, "logging_steps": 1, "report_to": "none",
        "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False, "seed": 3,
    }  # fmt: skip
    made = TrainingArguments(output_dir=str(folder), **{**settings, **arguments})
    return Trainer(model=model, args=made, train_dataset=rows(value=_slots(model)), data_collator=together)  # type: ignore[arg-type]


def _slots(model: PreTrainedModel) -> Foreword | None:
    """What is attached to a model, which may want places in the rows."""
    return model.foreword() if isinstance(model, Attached) else None  # type: ignore[unreachable]


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("method", LEARNING)
def test_trainer_learns_the_foreword_alone(tmp_path: Path, method: str, checkpointing: bool) -> None:
    model = tiny("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    writer = writer_for(method, model)
    first = writer.write().detach().digest()
    attached = attach(model, writer)
    assert isinstance(attached, type(model))
    wanted = {id(p) for p in writer.parameters() if p.requires_grad}
    assert {id(p) for p in attached.parameters() if p.requires_grad} == wanted
    trainer = trainer_for(attached, tmp_path, gradient_checkpointing=checkpointing)
    trainer.train()
    found = losses(trainer)
    assert found[-1] < 0.95 * found[0], found
    assert attached.foreword().digest() != first
    base = attached.detach()
    assert base is model
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any("forward" in vars(m) for m in model.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_checkpointing_trains_the_same(tmp_path: Path) -> None:
    found = []
    for on in (False, True):
        attached = attach(tiny("llama"), writer_for("prefix", tiny("llama")))
        trainer = trainer_for(attached, tmp_path / str(on), gradient_checkpointing=on)
        trainer.train()
        found.append(losses(trainer))
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bert"])
def test_an_attached_model_is_the_injected_one(family: str) -> None:
    """Its outputs are those of the foreword in front, follow the writer, and are the base's again after detaching."""
    model, ids = tiny(family), sample_ids()
    with torch.no_grad():
        plain = output(model, ids)
    writer = writer_for("prefix", model)
    attached = attach(model, writer)
    for _ in range(2):
        with torch.no_grad():
            got = output(attached, ids)
        value = attached.foreword()
        attached.detach()
        with torch.no_grad(), injected(model, [value]):
            assert torch.allclose(got, output(model, ids), atol=1e-5)
        with torch.no_grad():
            assert torch.equal(output(model, ids), plain)
            for parameter in writer.parameters():
                parameter.add_(0.1)
        attached = attach(model, writer)
    attached.detach()


@pytest.mark.parametrize("family", ["llama", "t5", "bert"])
@pytest.mark.parametrize("method", LEARNING)
def test_gradients_are_those_of_the_injected_foreword(method: str, family: str) -> None:
    """Also after an evaluation in between, and with a second pass before the first one's backward."""
    model = tiny(family)
    writer = writer_for(method, model)
    ids = behind(writer.write(), sample_ids())

    def gradients(loss: Tensor) -> list[Tensor]:
        wanted = [p for p in writer.parameters() if p.requires_grad]
        return list(torch.autograd.grad(loss, wanted))

    with injected(model, [writer.write()]):
        expected = gradients(output(model, ids).pow(2).mean())
    attached = attach(model, writer)
    first = output(attached, ids).pow(2).mean()
    with torch.no_grad():
        output(attached, ids)
    second = output(attached, ids).pow(2).mean()
    for loss in (first, second):
        for got, wanted in zip(gradients(loss), expected, strict=True):
            assert (got - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.abs().max()))
    attached.detach()


def test_an_attached_model_generates_behind_its_foreword() -> None:
    model, ids = tiny("llama"), sample_ids(2, 5)
    attached = attach(model, writer_for("prefix", model))
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    got = attached.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    value = attached.foreword()
    attached.detach()
    with injected(model, [value]):
        assert torch.equal(got, model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options))


def test_the_base_stays_without_dropout_while_the_writer_trains() -> None:
    attached = attach(tiny("gpt2"), writer_for("prefix", tiny("gpt2")))
    attached.train()
    assert attached.training
    assert not any(m.training for name, m in attached.named_modules() if name and not name.startswith("writer"))
    attached.detach()


def test_saving_saves_the_foreword(tmp_path: Path) -> None:
    """What Trainer saves is a foreword's file, not the base."""
    model = tiny("llama")
    attached = attach(model, writer_for("prefix", model))
    trainer = trainer_for(attached, tmp_path / "out", max_steps=2)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    value, manifest = load(tmp_path / "saved" / "model.foreword")
    assert value.digest() == attached.foreword().digest()
    assert manifest.base.architecture == "LlamaForCausalLM"
    assert (
        not (tmp_path / "saved" / "model.safetensors").exists()
        or (tmp_path / "saved" / "model.safetensors").stat().st_size < 100_000
    )
    attached.detach()


def test_trainer_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    """Stopped in the middle and gone on with, Trainer ends where it would have ended."""

    def run(folder: Path, *, stop: int = -1, resume: str | None = None) -> str:
        attached = attach(tiny("llama"), writer_for("prefix", tiny("llama")))
        trainer = trainer_for(attached, folder, max_steps=8, save_strategy="steps", save_steps=4)
        if stop > 0:
            trainer.args.max_steps = stop
            trainer.create_optimizer_and_scheduler(num_training_steps=8)
        trainer.train(resume_from_checkpoint=resume)
        digest: str = attached.foreword().digest()
        attached.detach()
        return digest

    whole = run(tmp_path / "whole")
    run(tmp_path / "part", stop=4)
    assert run(tmp_path / "part", resume=str(tmp_path / "part" / "checkpoint-4")) == whole


# --- what users do to it


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return output(model, ids)


def test_attached_again_the_latest_answers_and_each_trains_its_own() -> None:
    base, ids = tiny("llama"), sample_ids()
    plain = logits(base, ids)
    writers = [moved(writer_for("prefix", base), seed) for seed in (1, 2)]
    model = attach(base, writers[0])
    first = logits(model, ids)
    other = attach(base, writers[1])
    assert torch.equal(logits(model, ids), first)
    assert torch.equal(logits(base, ids), logits(other, ids))
    assert not torch.equal(logits(other, ids), first)
    model(input_ids=ids, labels=ids).loss.backward()
    assert [any(p.grad is not None for p in w.parameters()) for w in writers] == [True, False]
    model.detach()
    assert not torch.equal(logits(base, ids), plain)
    other.detach()
    assert torch.equal(logits(base, ids), plain)


def test_a_cell_that_attaches_runs_twice() -> None:
    base, ids = tiny("llama"), sample_ids()
    plain = logits(base, ids)
    for seed in (1, 2):
        model = attach(base, moved(writer_for("prefix", base), seed))
    assert not torch.equal(logits(model, ids), plain)
    assert not torch.equal(logits(base, ids), plain)
    del model
    gc.collect()
    assert torch.equal(logits(base, ids), plain)
    assert not any("forward" in vars(m) for m in base.modules())


@pytest.mark.parametrize("method", LEARNING)
def test_it_may_be_moved_and_made_shorter_afterwards(method: str) -> None:
    base = tiny("llama")
    attached = attach(base, writer_for(method, base))
    ids = behind(attached.foreword(), sample_ids())
    expected = logits(attached, ids)
    attached.to(torch.bfloat16)  # type: ignore[arg-type]
    assert torch.allclose(logits(attached, ids).float(), expected, atol=0.1 * float(expected.abs().max()))


def test_it_is_not_copied_to_several_devices_in_one_process() -> None:
    base = tiny("llama")
    attached = attach(base, writer_for("prefix", base))
    with pytest.raises(UnsupportedBaseError, match="several devices"):
        attached._replicate_for_data_parallel()


def test_it_is_checkpointed_in_a_plain_loop_that_leaves_the_cache_on() -> None:
    base, ids = tiny("llama"), sample_ids()
    found = []
    for checkpoint in (False, True):
        writer = writer_for("prefix", base)
        attached = attach(base, writer)
        if checkpoint:
            attached.gradient_checkpointing_enable()
        attached(input_ids=ids, labels=ids).loss.backward()
        attached.detach()
        found.append([p.grad for p in writer.parameters() if p.requires_grad])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_nothing_outlives_an_attached_model_that_is_dropped(checkpoint: bool) -> None:
    base = tiny("llama")
    attached = attach(base, writer_for("prefix", base))
    if checkpoint:
        attached.gradient_checkpointing_enable()
    attached(input_ids=sample_ids())
    references = [weakref.ref(attached), weakref.ref(base)]
    del attached, base
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("broken", [object(), None])
def test_a_failed_attach_leaves_the_base_as_it_was(broken: object) -> None:
    base, ids = tiny("llama").train(), sample_ids()
    plain, modules = logits(base, ids), [set(vars(m)) - {"_foreword_state"} for m in base.modules()]
    writer = writer_for("prefix", tiny("gpt2") if broken is None else tiny("llama"))
    with pytest.raises((AttributeError, ForewordError)):
        attach(base, writer, tokenizer=broken)
    assert base.training
    assert [set(vars(m)) - {"_foreword_state"} for m in base.modules()] == modules
    assert torch.equal(logits(base, ids), plain)


class Around(torch.nn.Module):
    """What wraps a model: torch.compile and DDP do it like this."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module


def test_what_wraps_it_saves_and_loads_the_writer() -> None:
    base = tiny("llama")
    one, two = (attach(base, moved(writer_for("prefix", base), seed)) for seed in (1, 2))
    state = Around(one).state_dict()
    assert list(state) == [f"module.writer.{name}" for name in one.writer.state_dict()]
    assert not Around(two).load_state_dict(state).missing_keys
    assert one.foreword().digest() == two.foreword().digest()
    del state[next(iter(state))]
    with pytest.raises(RuntimeError, match="Missing key"):
        Around(two).load_state_dict(state)


def test_each_thread_has_the_value_of_its_own_pass() -> None:
    base, ids = tiny("llama"), sample_ids()
    attached = attach(base, writer_for("prompt", base))
    expected = logits(attached, ids)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: logits(attached, ids), range(40)):
            assert torch.equal(got, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_attached_model_that_is_collected_anywhere_stops_nothing() -> None:
    """The collector runs between any two instructions, also while the same thread holds the lock of the hooks."""
    other = tiny("llama", 1)
    for count in range(1, 200, 40):
        child = os.fork()
        if not child:
            faulthandler.dump_traceback_later(20, exit=True)
            gc.collect()
            gc.disable()
            base = tiny("llama")
            attached = attach(base, writer_for("prefix", base))
            object.__setattr__(attached, "itself", attached)
            del attached, base
            gc.enable()
            gc.set_threshold(gc.get_count()[0] + count, 1000, 1000)
            with injected(other, []):
                pass
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("method", ["prefix", "prompt", "lora", "full"])
def test_a_copy_of_an_attached_base_is_the_plain_base(method: str) -> None:
    model = tiny("llama")
    with torch.no_grad():
        plain = output(model, sample_ids())
    attached = attach(model, moved(writer_for(method, model)))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(output(twin, sample_ids()), plain)
        assert not torch.equal(output(model, sample_ids()), plain)
    assert all(type(part._parameters) is dict for part in twin.modules())
    attached.detach()
    with torch.no_grad():
        assert torch.equal(output(twin, sample_ids()), plain)
