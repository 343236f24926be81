"""Shapes in docstrings are true: each public tensor function is called once on a tiny input, and what stands in its
docstring is compared with what it took and what it gave."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.attention.masks import causal
from foreword.core.attention.packing import Packed
from foreword.core.attention.product_attention import product_attention
from foreword.core.inject import initial_values
from foreword.core.inject.sites import run
from foreword.core.inject.value import Foreword
from foreword.core.passes.output_layer import logits_at, word_logits
from foreword.core.passes.scoring import choice_scores, pad, pooled_states, states_at
from foreword.data.tokens.examples import Example
from foreword.testing import tiny
from foreword.training.heads.base import cross_entropy, linear

_SHAPE = re.compile(r"(?:``(\w+)``|\b(\w+))? ?``\[([^\]]+)\]``")
_NAMES = re.compile(r"^ +([a-z_]+(?:, [a-z_]+)*): (.*)")
Shape = tuple[str, ...]


def shapes_of(function: Callable[..., Any]) -> tuple[dict[str, Shape], list[Shape]]:
    """The shapes that a docstring gives: by the name of a parameter, and all others in their order."""
    parameters = set(inspect.signature(function).parameters)
    named: dict[str, Shape] = {}
    others: list[Shape] = []
    for line in (function.__doc__ or "").splitlines():
        listed = _NAMES.match(line)
        shapes = [tuple(part.strip() for part in match[3].split(",")) for match in _SHAPE.finditer(line)]
        if listed and set(names := listed[1].split(", ")) <= parameters:
            named |= dict(zip(names, shapes if len(shapes) == len(names) else shapes[:1] * len(names), strict=False))
            continue
        for match, shape in zip(_SHAPE.finditer(line), shapes, strict=True):
            name = match[1] or match[2]
            if name in parameters:
                named[name] = shape
            else:
                others.append(shape)
    return named, others


def lies(function: Callable[..., Any], arguments: Mapping[str, Any], result: Any, **sizes: int) -> list[str]:
    """What of a docstring's shapes is not so for these arguments and this result; letters have one size each."""
    named, others = shapes_of(function)
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    results = list(tensors_of(result))
    free = [value for name, value in tensors.items() if name not in named]
    pairs = [(name, shape, tensors[name]) for name, shape in named.items() if name in tensors]
    unnamed = [*free, *results][-len(others) :] if others else []
    if (not pairs and not others) or len(unnamed) != len(others):
        return [f"{len(others)} shapes for {len(unnamed)} tensors"]
    pairs += [("", shape, tensor) for shape, tensor in zip(others, unnamed, strict=True)]
    found = []
    for name, shape, tensor in pairs:
        right = [_size(letter, size, sizes) for letter, size in zip(shape, tensor.shape, strict=False)]
        if len(shape) != tensor.ndim or not all(right):
            found.append(f"{name or 'result'} is {list(tensor.shape)}, not [{', '.join(shape)}] with {sizes}")
    return found


def _size(letter: str, size: int, sizes: dict[str, int]) -> bool:
    """Whether a dimension has the size of its letter, which it gets where nothing had it before."""
    if " or " in letter or ">" in letter:
        return True
    return size == (int(letter) if letter.isdigit() else sizes.setdefault(letter, size))


def tensors_of(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif is_dataclass(result):
        yield from (value for part in fields(result) if isinstance(value := getattr(result, part.name), Tensor))
    elif isinstance(result, tuple):
        yield from (value for value in result if isinstance(value, Tensor))


@cache
def model() -> PreTrainedModel:
    return tiny("llama")


ROWS = [[5, 6, 7], [8, 9]]
AT = (torch.tensor([0, 1]), torch.tensor([1, 0]))
IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])
PACKED = Packed([3, 2], torch.device("cpu"))
HEAD = Foreword(head={"weight": torch.ones(4, 6), "bias": torch.zeros(4)})
EXAMPLES = [Example(str(row), (5, 6), (), row, "") for row in range(2)]
GENERATOR = torch.Generator().manual_seed(1)

# A function, its arguments, and sizes that follow from something else than tensors.
CASES: list[tuple[Callable[..., Any], dict[str, Any], dict[str, int]]] = [
    (causal, {"queries": 3, "keys": 5, "device": torch.device("cpu")}, {"T": 3, "S": 5}),
    (
        product_attention,
        {"query": torch.ones(2, 4, 3, 8), "key": torch.ones(2, 2, 5, 8), "value": torch.ones(2, 2, 5, 6),
         "mask": None, "scale": None},
        {},
    ),
    (PACKED.apart, {"states": torch.ones(1, 4, 5, 8)}, {"B": 2, "T": 3, "N": 5}),
    (PACKED.joined, {"states": torch.ones(2, 3, 4, 8)}, {"B": 2, "T": 3, "N": 5}),
    (PACKED.beside, {"values": torch.arange(5)}, {"B": 2, "T": 3, "N": 5}),
    (PACKED.end_to_end, {"values": torch.ones(2, 3)}, {"B": 2, "T": 3, "N": 5}),
    (initial_values.embeddings_of, {"model": model, "ids": [5, 6, 7, 8]}, {"P": 4}),
    (initial_values.vocabulary, {"model": model, "length": 4, "generator": GENERATOR}, {"P": 4}),
    (choice_scores, {"model": model, "inputs": ROWS, "choices": [[5], [6], [7, 8]], "fill": 0}, {"B": 2, "C": 3}),
    (pooled_states, {"model": model, "inputs": ROWS, "pooling": "mean", "fill": 0}, {"B": 2}),
    (states_at, {"model": model, "inputs": ROWS, "places": [[0, 2], [1]], "fill": 0}, {"N": 3}),
    (logits_at, {"model": model, "rows": AT[0], "positions": AT[1], "input_ids": IDS}, {"N": 2}),
    (word_logits, {"model": model, "at": AT, "words": torch.tensor([5, 6, 7]), "input_ids": IDS}, {"N": 2, "C": 3}),
    (linear, {"states": torch.ones(3, 6), "foreword": HEAD}, {"N": 3, "C": 4, "E": 6}),
    (cross_entropy, {"scores": torch.ones(2, 4), "batch": EXAMPLES}, {"B": 2, "C": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "sizes"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_docstrings_shapes_are_what_is_taken_and_given(
    function: Callable[..., Any], arguments: dict[str, Any], sizes: dict[str, int]
) -> None:
    arguments = {name: value() if value is model else value for name, value in arguments.items()}
    if "model" in arguments:
        config = model().config
        sizes = {**sizes, "E": config.hidden_size, "V": config.vocab_size}
    with torch.no_grad():
        result = function(**arguments)
    # Counts and indices of places are no tensors that a docstring gives shapes of.
    seen = {name: value for name, value in arguments.items() if name not in ("rows", "positions", "words", "input_ids")}
    assert lies(function, seen, result, **sizes) == []


def test_padded_rows_and_a_pass_have_the_shapes_of_their_docstrings() -> None:
    padded = pad(ROWS, 0, torch.device("cpu"))
    assert lies(type(padded), {"ids": padded.ids, "mask": padded.mask}, None, B=2, T=3) == []
    assert run(model(), IDS[:1]).shape == (1, 3, model().config.hidden_size)


@pytest.mark.parametrize("shape", ["[B, T]", "[B, C, 1]", "[C, B]"])
def test_a_docstring_that_lies_is_found(shape: str) -> None:
    def scores(x: Tensor) -> Tensor:
        return x.T

    scores.__doc__ = f"""Scores ``{shape}`` of ``x`` ``[B, C]``."""
    x = torch.ones(2, 3)
    wrong = lies(scores, {"x": x}, scores(x), B=2, C=3, T=4)
    assert bool(wrong) is (shape != "[C, B]")
