"""What stands around a layer's forward comes and goes in any order, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import nn

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.forward_wrappers import put_around
from foreword.core.passes.layer_cache import Frozen, layers_of, reusing
from foreword.core.passes.tensor_cache import Store
from foreword.testing.method_contracts import tiny


def adding(said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda forward: lambda text: f"{said}({forward(text)})"


class Layer(nn.Module):
    def forward(self, text: str) -> str:
        return text


def test_the_name_says_who_is_outside_and_one_serves_all() -> None:
    layer = Layer()
    outer = put_around(layer, "b", adding("b"))
    inner = put_around(layer, "a", adding("a"))
    again = put_around(layer, "b", adding("another b"))
    assert layer("x") == "b(a(x))"
    outer()
    outer()
    assert layer("x") == "b(a(x))"
    again()
    assert layer("x") == "a(x)"
    inner()
    assert "forward" not in vars(layer)


def test_what_the_instance_had_comes_back() -> None:
    layer = Layer()
    own = adding("own")(layer.forward)
    layer.forward = own  # type: ignore[method-assign]
    undo = put_around(layer, "a", adding("a"))
    assert layer("x") == "a(own(x))"
    undo()
    assert vars(layer)["forward"] is own


@pytest.mark.parametrize("leaving", list(permutations(range(4))))
def test_who_checkpoints_and_who_passes_layers_over_leave_in_any_order(leaving: tuple[int, ...]) -> None:
    model = tiny("llama")
    frozen = Frozen(model, 1, Store(2**20))
    stacks = [ExitStack() for _ in range(4)]
    for stack, block in zip(
        stacks, (checkpointing(model), reusing(frozen), checkpointing(model), reusing(frozen)), strict=True
    ):
        stack.enter_context(block)
    for number in leaving:
        assert all("forward" in vars(layer) for layer in layers_of(model))
        stacks[number].close()
    assert not any("forward" in vars(layer) for layer in layers_of(model))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_checkpointing_thread_and_a_plain_one_leave_the_base_as_it_was() -> None:
    model = tiny("llama")
    ids = torch.arange(3, 10)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits

    def work(number: int) -> float:
        worst = 0.0
        for _ in range(20):
            with checkpointing(model, number == 0), reusing(None if number == 0 else Frozen(model, 1, Store(2**20))):
                worst = max(worst, float((model(input_ids=ids).logits - expected).detach().abs().max()))
        return worst

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(work, range(2))) < 1e-5
    assert not any("forward" in vars(layer) for layer in layers_of(model))
