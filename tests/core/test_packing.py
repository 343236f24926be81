"""Rows end to end give each row's own results, on every decoder that may be packed, and see nothing of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from foreword.core.attention import fused_layers
from foreword.core.attention.checkpointing import checkpointing
from foreword.core.attention.fused_layers import fused
from foreword.core.attention.model_state import fact
from foreword.core.attention.packable import last_layer, packable
from foreword.core.attention.packing import Packed
from foreword.core.attention.pass_context import current, within
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.scoring import choice_scores, completion_losses, pooled_states
from foreword.testing.method_contracts import FAMILIES, sample_ids, tiny, trained_for, writer_for

PACKABLE = [family for family in FAMILIES if packable(tiny(family))]
# GPT-2 gives its last hidden state the shape of its input.
WHOLE = {"gpt2"}
# Longer than a window of 6, shorter, and two alike.
LENGTHS = (9, 2, 11, 5, 5)
INPUTS = [row[:n] for row, n in zip(sample_ids(5, 11).tolist(), LENGTHS, strict=True)]
TARGETS = [[60, 61, 2], [62, 2], [2], [63, 64, 65, 2], [2]]


def losses(model: PreTrainedModel, inputs: Sequence[Sequence[int]]) -> list[Tensor]:
    """What can be asked of a row, row by row: choices (of one token and of several), completions, pooled states."""
    nll, owner = completion_losses(model, inputs, TARGETS[: len(inputs)], 0)
    scores = choice_scores(model, inputs, ((40,), (41,)), 0), choice_scores(model, inputs, ((40, 41), (42,)), 0)
    pooled = pooled_states(model, inputs, "mean", 0), pooled_states(model, inputs, "last", 0)
    parts = [*scores, *pooled]
    return [torch.cat([nll[owner == b], *(p[b] for p in parts)]) for b in range(len(inputs))]


def forewords(model: PreTrainedModel) -> tuple[Foreword, Foreword]:
    return (
        writer_for("prefix", model).write().detach(),
        writer_for("prefix", model, num_virtual_tokens=3).write().detach(),
    )


def test_decoders_without_a_recurrent_state_are_packed() -> None:
    kinds = {family: find_sites(tiny(family)) for family in FAMILIES}
    assert [f for f, s in kinds.items() if s.moves_positions and not s.recurrent] == PACKABLE


@pytest.mark.parametrize("family", PACKABLE)
def test_rows_with_different_forewords_and_none_equal_the_rows_alone(family: str) -> None:
    model = tiny(family)
    a, b = forewords(model)
    with torch.no_grad(), injected(model, [a, b], [0, 1, None, 1, 0]):
        together = losses(model, INPUTS)
    for index, value in enumerate((a, b, None, b, a)):
        with torch.no_grad(), injected(model, [] if value is None else [value]):
            nll, _ = completion_losses(model, [INPUTS[index]], [TARGETS[index]], 0)
            rest = losses(model, [INPUTS[index]])[0]
        alone = torch.cat([nll, rest[-len(together[index]) + len(nll) :]])
        assert torch.allclose(together[index], alone, atol=1e-5 * max(1.0, float(alone.abs().max()))), family


@pytest.mark.parametrize("family", PACKABLE)
@pytest.mark.parametrize("method", ["lora", "slots"])
def test_low_rank_changes_and_slots_are_each_rows_own(family: str, method: str) -> None:
    model = tiny(family)
    width, dice = model.get_input_embeddings().weight.shape[1], torch.Generator().manual_seed(1)

    def drawn() -> Foreword:
        if method == "slots":
            return Foreword(slots=torch.randn(1, width, generator=dice))  # type: ignore[arg-type]
        names = writer_for("lora", model).write().tensors()
        return Foreword.from_tensors({n: torch.randn(t.shape, generator=dice) * 0.1 for n, t in names.items()})

    a, b = drawn(), drawn()
    inputs = [[-1, *row[1:]] if method == "slots" and i != 2 else row for i, row in enumerate(INPUTS)]
    with torch.no_grad(), injected(model, [a, b], [0, 1, None, 1, 0]):
        together, owner = completion_losses(model, inputs, TARGETS, 0)
    for index, value in enumerate((a, b, None, b, a)):
        with torch.no_grad(), injected(model, [] if value is None else [value]):
            alone, _ = completion_losses(model, [inputs[index]], [TARGETS[index]], 0)
        assert torch.allclose(together[owner == index], alone, atol=1e-5 * max(1.0, float(alone.abs().max())))


@pytest.mark.parametrize("family", PACKABLE)
def test_a_row_changes_nothing_in_the_others(family: str) -> None:
    model = tiny(family)
    value, _ = forewords(model)
    changed = [*INPUTS[:2], [(t + 7) % 250 + 3 for t in INPUTS[2]], *INPUTS[3:]]
    with torch.no_grad(), injected(model, [value]):
        before, after = losses(model, INPUTS), losses(model, changed)
    for index in range(len(INPUTS)):
        assert torch.allclose(before[index], after[index], atol=1e-6) == (index != 2), index


@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("family", PACKABLE)
def test_the_gradient_is_that_of_the_rows_alone(family: str, checkpoint: bool) -> None:
    model = tiny(family)
    writer = writer_for("prefix", model)
    parameters = [p for p in writer.parameters() if p.requires_grad]
    with checkpointing(model, checkpoint), injected(model, [writer.write()]):
        nll, _ = completion_losses(model, INPUTS, TARGETS, 0)
        together = torch.autograd.grad(nll.sum(), parameters)
    alone = [torch.zeros_like(p) for p in parameters]
    for row, target in zip(INPUTS, TARGETS, strict=True):
        with injected(model, [writer.write()]):
            logits = model(input_ids=torch.tensor([[*row, *target[:-1]]]), use_cache=False).logits[0, len(row) - 1 :]
            nll = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
            alone = [a + g for a, g in zip(alone, torch.autograd.grad(nll, parameters), strict=True)]
    for got, expected in zip(together, alone, strict=True):
        assert torch.allclose(got, expected, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_a_soft_prompt_runs_alone_before_packed_rows() -> None:
    model = tiny("llama")
    value = writer_for("prompt", model).write().detach()
    with torch.no_grad(), injected(model, [value]):
        together = losses(model, INPUTS)[2]
        alone = torch.cat([completion_losses(model, [INPUTS[2]], [TARGETS[2]], 0)[0], together[1:]])
    assert torch.allclose(together, alone, atol=1e-5)


def test_nothing_is_packed_outside_a_pass() -> None:
    model = tiny("llama")
    losses(model, INPUTS)
    assert current().packed is None
    with pytest.raises(IndexError):
        completion_losses(model, INPUTS, [[999], *TARGETS[1:]], 0)
    assert current().packed is None
    assert model.config._attn_implementation == tiny("llama").config._attn_implementation


@pytest.mark.parametrize("family", [family for family in PACKABLE if family not in WHOLE])
def test_the_last_layer_runs_for_the_wanted_tokens_alone(family: str) -> None:
    model, seen = tiny(family), list[int]()
    layer = last_layer(model)
    assert layer is not None
    ends = ("o_proj", "attention.dense", "out_proj")
    projection = next(module for name, module in layer.named_modules() if name.endswith(ends))
    completion_losses(model, INPUTS, TARGETS, 0)
    handle = projection.register_forward_hook(lambda m, args, out: seen.append(args[0].numel() // args[0].shape[-1]))
    completion_losses(model, INPUTS, TARGETS, 0)
    handle.remove()
    assert seen == [sum(map(len, TARGETS))]
    assert not layer._forward_pre_hooks


def test_a_model_that_wants_its_inputs_shape_back_keeps_its_last_layer_whole() -> None:
    assert {family for family in PACKABLE if last_layer(tiny(family)) is None} == WHOLE


def test_a_row_of_which_nothing_is_wanted_leaves_the_last_layer_whole() -> None:
    model = tiny("llama")
    with torch.no_grad():
        nll, owner = completion_losses(model, INPUTS, [[], *TARGETS[1:]], 0)
        whole, rows = completion_losses(model, INPUTS, TARGETS, 0)
    assert torch.allclose(nll, whole[rows > 0], atol=1e-6)
    assert owner.min() == 1


def test_apart_and_joined_are_each_others_inverse_and_so_are_their_gradients() -> None:
    how = Packed((3, 1, 4), torch.device("cpu"))
    states = torch.randn(1, 2, 8, 5, dtype=torch.double, requires_grad=True)
    apart = how.apart(states)
    assert apart.shape == (3, 2, 4, 5)
    assert torch.equal(apart[1, :, 0], states[0, :, 3])
    assert torch.equal(how.joined(apart.transpose(1, 2)), states.transpose(1, 2))

    def there_and_back(x: Tensor) -> Tensor:
        return how.joined((how.apart(x) ** 2).transpose(1, 2))

    assert torch.autograd.gradcheck(there_and_back, (states,))
    assert how.positions.tolist() == [[0, 1, 2, 0, 0, 1, 2, 3]]
    assert how.owner.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert how.end_to_end(torch.arange(12).view(3, 4)).tolist() == [[0, 1, 2, 4, 8, 9, 10, 11]]


def in_a_packed_pass(model: PreTrainedModel) -> AbstractContextManager[object]:
    return within(packed=Packed([2, 3], model.device), keys_only=False)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral"])
@pytest.mark.parametrize(
    "context",
    [
        lambda model: injected(model, [trained_for("prefix", model)]),
        lambda model: fused(model),
        in_a_packed_pass,
        lambda model: torch.autocast("cpu", torch.bfloat16),
        lambda model: torch.inference_mode(),
    ],
    ids=["injected", "fused", "packed", "autocast", "inference"],
)
def test_what_is_found_of_a_model_does_not_depend_on_where_it_is_asked(
    family: str, context: Callable[[PreTrainedModel], AbstractContextManager[object]]
) -> None:
    model, other = tiny(family), tiny(family)
    with context(other):
        asked = packable(other), [name for name, part in other.named_modules() if part is last_layer(other)]
        found = fact(other, "fusible", lambda: fused_layers._replaceable(other))
    replaced = [type(part) for part in found[0]]
    assert asked == (packable(model), [name for name, part in model.named_modules() if part is last_layer(model)])
    assert replaced == [type(part) for part in fused_layers._replaceable(model)[0]]


def test_rows_of_a_base_that_turns_long_rows_otherwise_are_not_packed() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    config = LlamaConfig(
        vocab_size=264, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, pad_token_id=0, rope_parameters=rope,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    assert not packable(model)
    ids = sample_ids(1, 12)
    with torch.no_grad():
        alone = choice_scores(model, ids.tolist(), [[5], [6]], 0)
        # Rows of 12 tokens end to end would be longer than the 16 that the base has learned.
        together = choice_scores(model, [*ids.tolist(), *sample_ids(2, 12, 1).tolist()], [[5], [6]], 0)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
