"""The output layer is asked for no more than is wanted, in chunks, with the same numbers and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM

from foreword.core.inject.injection import injected
from foreword.core.passes import output_layer
from foreword.core.passes.scoring import choice_scores, completion_losses
from foreword.testing.method_contracts import FAMILIES, sample_ids, tiny, writer_for

INPUTS = [row[:n] for row, n in zip(sample_ids(4, 9).tolist(), (9, 3, 6, 6), strict=True)]
TARGETS = [[60, 61, 62, 2], [63, 2], [64, 65, 66, 67, 2], [2]]
SCALED = {"gemma2"}


class Largest(TorchDispatchMode):
    """The size of the largest float tensor that any operation gives, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0
        self.widths: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_iter(out) if isinstance(t, Tensor) and t.is_floating_point()]
        # Views of a weight are no new memory.
        own = [t for t in made if not any(t.untyped_storage().data_ptr() == w for w in self.weights)]
        self.widths |= {t.shape[-1] for t in own if t.numel() and t.ndim}
        self.numel = max([self.numel, *(t.numel() for t in own)])
        return out

    weights: frozenset[int] = frozenset()


def test_which_families_logits_are_those_of_the_output_layer() -> None:
    with_head = [f for f in FAMILIES if tiny(f).get_output_embeddings() is not None]
    assert {f for f in with_head if not output_layer.plain(tiny(f))} == SCALED


@pytest.mark.parametrize("family", ["llama", "gemma2", "t5", "opt"])
def test_chunks_give_the_same_losses_and_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(family)
    writer = writer_for("prefix", model)
    parameters = [p for p in writer.parameters() if p.requires_grad]
    found = []
    for chunk in (output_layer.CHUNK, 3 * 264):
        monkeypatch.setattr(output_layer, "CHUNK", chunk)
        with injected(model, [writer.write()]):
            losses, _ = completion_losses(model, INPUTS, TARGETS, 0)
            found.append((losses.detach(), *torch.autograd.grad(losses.sum(), parameters)))
    for whole, chunked in zip(*found, strict=True):
        assert torch.allclose(whole, chunked, atol=1e-5 * max(1.0, float(whole.abs().max())))


def test_no_tensor_holds_more_than_a_chunk_of_a_large_vocabularys_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, chunk = 32_000, 4 * 32_000
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    writer = writer_for("prefix", model)
    monkeypatch.setattr(output_layer, "CHUNK", chunk)
    targets = [[*range(100, 110)], [*range(50, 57)], [7], [8, 9]]
    completion_losses(model, INPUTS[:1], targets[:1], 0)  # asks the model what it allows
    largest = Largest()
    largest.weights = frozenset(w.untyped_storage().data_ptr() for w in model.parameters())
    with largest, injected(model, [writer.write()]):
        losses, _ = completion_losses(model, INPUTS, targets, 0)
        losses.sum().backward()
    assert len(losses) * vocabulary > 4 * chunk
    assert chunk / 2 < largest.numel <= chunk


def test_choices_of_one_token_need_their_own_rows_of_the_output_layer_only() -> None:
    model, choices = tiny("llama"), ((40,), (41,), (90,))
    scores = choice_scores(model, INPUTS, choices, 0)
    largest = Largest()
    largest.weights = frozenset(w.untyped_storage().data_ptr() for w in model.parameters())
    with largest:
        relative = choice_scores(model, INPUTS, choices, 0, relative=True)
    assert torch.allclose(relative.log_softmax(-1), scores.log_softmax(-1), atol=1e-5)
    assert model.config.vocab_size not in largest.widths
    several = ((40,), (41, 42))
    assert torch.allclose(
        choice_scores(model, INPUTS, several, 0, relative=True), choice_scores(model, INPUTS, several, 0), atol=1e-6
    )
