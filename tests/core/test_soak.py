"""Threads that attach, inject, generate and train, over and over: nothing piles up and nothing hangs."""

from __future__ import annotations

import faulthandler
import gc
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from foreword.core.attention import hooks
from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.fused_layers import fused
from foreword.core.attention.pass_context import PassContext, current
from foreword.core.inject.injection import injected
from foreword.core.passes.scoring import choice_scores
from foreword.testing.method_contracts import sample_ids, tiny, trained_for, writer_for
from foreword.training.attach import attach

THREADS = 4
# Freed memory that the allocator keeps for its threads.
_SLACK = 48 << 20


@pytest.fixture
def watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def objects() -> int:
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor | torch.nn.Module) for o in gc.get_objects())


def resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * resource.getpagesize() if file.exists() else 0


@pytest.mark.parametrize("cycles", [24, pytest.param(200, marks=[pytest.mark.compat, pytest.mark.long])])
def test_many_cycles_in_many_threads_leave_the_base_bit_equal_and_nothing_behind(watchdog: None, cycles: int) -> None:
    model = tiny("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys = [set(vars(m)) - {"_foreword_state"} for m in model.modules()]
    ids = sample_ids(2, 5)
    values = [trained_for(method, model) for method in ("prefix", "lora", "full", "prompt")]
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}

    def generated(value: object) -> torch.Tensor:
        with torch.no_grad(), injected(model, [value]):  # type: ignore[list-item]
            return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)

    expected = [generated(value) for value in values]

    def cycle(number: int) -> None:
        kind = number % THREADS
        assert torch.equal(generated(values[kind]), expected[kind])
        own = tiny("llama", number)
        attached = attach(own, writer_for(("prefix", "lora")[number % 2], own))
        attached.gradient_checkpointing_enable()
        attached(input_ids=ids, labels=ids).loss.backward()
        if number % 3:
            attached.detach()
        writer = writer_for("prefix", model)
        with fused(model), checkpointing(model), injected(model) as injection:
            injection.put([writer.write()], None)
            loss = choice_scores(model, ids.tolist(), [[5, 6], [7]], 0).sum()
        loss.backward()
        assert current() == PassContext()

    def work(thread: int) -> None:
        for number in range(thread, cycles, THREADS):
            cycle(number)

    work(0)
    counted, bytes_before = objects(), resident()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert objects() <= counted
    assert resident() - bytes_before < _SLACK
    hooks.settle()
    assert not hooks._ELSEWHERE
    assert [set(vars(m)) - {"_foreword_state"} for m in model.modules()] == keys
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
