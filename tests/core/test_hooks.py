"""What stands around a layer's forward comes and goes in any order, and nothing is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import nn

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.hooks import HookSet, Level
from foreword.core.passes.layer_cache import LayerCache, layers_of, reusing
from foreword.core.passes.tensor_cache import TensorCache
from foreword.testing.method_contracts import tiny


def adding(letter: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda forward: lambda text: f"{letter}({forward(text)})"


class Layer(nn.Module):
    def forward(self, text: str) -> str:
        return text


def holding(layer: nn.Module, level: Level, letter: str) -> HookSet:
    hold = HookSet()
    hold.wrap(layer, level, adding(letter))
    return hold


def test_the_level_says_who_is_outside_and_one_serves_all() -> None:
    layer = Layer()
    outer, inner = holding(layer, Level.INJECTION, "b"), holding(layer, Level.FUSED, "a")
    again = holding(layer, Level.INJECTION, "another b")
    for hold in (inner, outer, again):
        hold.enter()
    assert layer("x") == "b(a(x))"
    outer.leave()
    assert layer("x") == "b(a(x))"
    again.leave()
    assert layer("x") == "a(x)"
    inner.leave()
    assert vars(layer).keys() == vars(Layer()).keys()


def test_a_hold_may_be_entered_again_and_what_it_needs_later_comes_too() -> None:
    layer, other = Layer(), Layer()
    hold = holding(layer, Level.LORA, "a")
    with hold, hold:
        hold.wrap(other, Level.LORA, adding("b"))
        assert (layer("x"), other("x")) == ("a(x)", "b(x)")
    assert (layer("x"), other("x")) == ("x", "x")
    with hold:
        assert (layer("x"), other("x")) == ("a(x)", "b(x)")


def test_what_the_instance_had_comes_back() -> None:
    layer = Layer()
    own = adding("own")(layer.forward)
    layer.forward = own  # type: ignore[method-assign]
    with holding(layer, Level.LORA, "a"):
        assert layer("x") == "a(own(x))"
    assert vars(layer)["forward"] is own


def test_who_wraps_a_hooked_function_is_left_alone_and_calls_no_hook_twice() -> None:
    layer = Layer()
    with holding(layer, Level.LORA, "a"):
        layer.forward = adding("autocast")(layer.forward)  # type: ignore[method-assign]
        assert layer("x") == "autocast(a(x))"
    assert layer("x") == "autocast(x)"
    with holding(layer, Level.LORA, "a"):
        assert layer("x") == "autocast(a(x))"


def test_what_cannot_be_put_on_leaves_nothing() -> None:
    layer, hold = Layer(), holding(Layer(), Level.LORA, "a")

    def fail() -> Callable[[], None]:
        raise RuntimeError("no")

    hold.wrap(layer, Level.LORA, adding("a"))
    hold.need(layer, "impossible", fail)
    with pytest.raises(RuntimeError, match="no"), hold:
        pass
    assert vars(layer).keys() == vars(Layer()).keys()


def test_a_copy_of_a_hooked_layer_has_its_own_forward() -> None:
    layer = Layer()
    with holding(layer, Level.LORA, "a"):
        twin = copy.deepcopy(layer)
        assert twin("x") == "x"
        assert twin.forward.__self__ is twin  # type: ignore[attr-defined]


@pytest.mark.parametrize("leaving", list(permutations(range(4))))
def test_who_checkpoints_and_who_passes_layers_over_leave_in_any_order(leaving: tuple[int, ...]) -> None:
    # What is in force in a thread ends innermost first; in a context of its own the order does not matter.
    copy_context().run(_leave, leaving)


def _leave(leaving: tuple[int, ...]) -> None:
    model = tiny("llama")
    frozen = LayerCache(model, 1, TensorCache(2**20))
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
            with (
                checkpointing(model, number == 0),
                reusing(None if number == 0 else LayerCache(model, 1, TensorCache(2**20))),
            ):
                worst = max(worst, float((model(input_ids=ids).logits - expected).detach().abs().max()))
        return worst

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(work, range(2))) < 1e-5
    assert not any("forward" in vars(layer) for layer in layers_of(model))
