"""Low-rank changes and other weights beyond the contracts: ranks, beams, nesting, ties, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from foreword.core.attention.checkpointing import checkpointing
from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.value import Foreword, LowRank
from foreword.core.passes.scoring import choice_scores
from foreword.errors import SettingsError
from foreword.testing.method_contracts import FAMILIES, output, sample_ids, tiny, trained_for


def lora(family: str, seed: int = 1, rank: int = 2, layers: slice = slice(None)) -> Foreword:
    """Random changes of rank ``rank`` at some linear layers."""
    generator, found = torch.Generator().manual_seed(seed), linear_layers(tiny(family))
    pairs = {}
    for name in list(found)[layers]:
        inner, outer = sizes(found[name])
        a, b = (torch.randn(n, generator=generator) * 0.2 for n in ((rank, inner), (outer, rank)))
        pairs[name] = LowRank(a, b)
    return Foreword(adapters=pairs)


def full(family: str, seed: int = 1, pattern: str = "") -> Foreword:
    """Every weight whose name holds ``pattern``, moved."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: p + 0.1 * torch.randn(p.shape, generator=generator)
        for name, p in tiny(family).named_parameters()
        if pattern in name
    }
    return Foreword(weights=weights)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5"])
def test_a_low_rank_change_is_the_changed_weight(family: str) -> None:
    model, changed, ids = tiny(family), tiny(family), sample_ids()
    value = lora(family)
    with torch.no_grad():
        for name, pair in value.adapters.items():
            weight = changed.get_parameter(f"{name}.weight")
            product = pair.b @ pair.a
            weight += product if product.shape == weight.shape and family != "gpt2" else product.T  # type: ignore[misc]
        expected = output(changed, ids)
        with injected(model, [value]):
            got = output(model, ids)
    assert (got - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


def test_rows_of_other_ranks_and_layers_share_a_batch() -> None:
    model, ids = tiny("llama"), sample_ids(4)
    values = [lora("llama", 1, 2), lora("llama", 2, 5, slice(None, None, 3)), lora("llama", 3, 1, slice(4))]
    with torch.no_grad():
        with injected(model, values, [2, 0, None, 1]):
            together = output(model, ids)
        for row, value in enumerate([values[2], values[0], Foreword(), values[1]]):
            with injected(model, [value]):
                alone = output(model, ids[row : row + 1])[0]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_beams_keep_their_changes() -> None:
    model, ids, pair = tiny("llama"), sample_ids(2, 5), [lora("llama", 1), lora("llama", 2)]
    options = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad():
        with injected(model, pair, [0, 1]):
            together = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)  # type: ignore[operator]
        for row, value in enumerate(pair):
            one = ids[row : row + 1]
            with injected(model, [value]):
                alone = model.generate(input_ids=one, attention_mask=torch.ones_like(one), **options)  # type: ignore[operator]
            assert torch.equal(together[row], alone[0])


@pytest.mark.parametrize("make", [lora, full])
def test_the_innermost_block_wins_and_nothing_stays(make: object) -> None:
    model, ids = tiny("llama"), sample_ids()
    outer, inner = make("llama", 1), make("llama", 2)  # type: ignore[operator]

    def ask(value: Foreword) -> Tensor:
        with injected(model, [value]):
            return output(model, ids)

    with torch.no_grad():
        plain, expected = output(model, ids), ask(inner)
        with injected(model, [outer]):
            assert torch.equal(ask(inner), expected)
            assert torch.equal(ask(Foreword()), plain)
            assert torch.equal(output(model, ids), ask(outer))
        assert torch.equal(output(model, ids), plain)
        with injected(model, [outer]) as injection:
            injection.put([], None)
            assert torch.equal(output(model, ids), plain)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "lstm"])
def test_other_weights_are_what_the_model_computes_with(family: str) -> None:
    model, changed, ids, value = tiny(family), tiny(family), sample_ids(), full(family)
    with torch.no_grad():
        for name, tensor in value.weights.items():
            changed.get_parameter(name).copy_(tensor)
        before = output(model, ids)
        with injected(model, [value]):
            assert torch.equal(output(model, ids), output(changed, ids))
            assert all(torch.equal(p, q) for p, q in zip(model.parameters(), tiny(family).parameters(), strict=True))
        assert torch.equal(output(model, ids), before)


def test_a_tied_weight_is_swapped_wherever_it_stands() -> None:
    model, ids = tiny("gpt2"), sample_ids()
    value = full("gpt2", pattern="wte")
    assert list(value.weights) == ["transformer.wte.weight"]
    with torch.no_grad(), injected(model, [value]):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert model.get_output_embeddings().weight is not dict(model.named_parameters())["transformer.wte.weight"]
        assert output(model, ids).isfinite().all()


@pytest.mark.parametrize("family", ["llama", "lstm"])
def test_threads_with_and_without_other_weights(family: str) -> None:
    model, ids = tiny(family), sample_ids(2, 9)
    values = [full(family, 1), Foreword(), full(family, 2)] * 3

    def answer(value: Foreword) -> Tensor:
        with torch.no_grad(), injected(model, [value]):
            return output(model, ids)

    alone = [answer(value) for value in values]
    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(answer, values * 3), alone * 3, strict=True):
            assert torch.equal(got, expected)


def test_what_does_not_fit_the_model_is_refused() -> None:
    model, value = tiny("llama"), lora("llama")
    name = next(iter(value.adapters))
    wrong = {
        "does not have, or that cannot": Foreword(adapters={"lm_head": LowRank(torch.ones(1, 32), torch.ones(264, 1))}),
        "another size": Foreword(adapters={name: LowRank(torch.ones(1, 31), torch.ones(32, 1))}),
        "a weight that this model does not have": Foreword(weights={"norm": torch.ones(32)}),
        "another shape": Foreword(weights={"model.norm.weight": torch.ones(31)}),
    }
    for problem, one in wrong.items():
        with pytest.raises(SettingsError, match=problem), injected(model, [one]):
            pass
    with injected(model, [value, Foreword()], [0, 1]), pytest.raises(SettingsError, match="number of rows"):
        output(model, sample_ids(3))
    assert not any(m._forward_hooks for m in model.modules())


def test_parts_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="r, in"):
        LowRank(torch.ones(2, 3), torch.ones(4, 1))
    for part in (lora("llama"), full("llama")):
        with pytest.raises(ValueError, match="not both"):
            replace(part, prompt=torch.ones(1, 32))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_outside_the_last_hidden_state_is_not_changed(family: str) -> None:
    model = tiny(family)
    layers = linear_layers(model)
    assert model.get_output_embeddings() not in layers.values()
    assert not any("pooler" in name for name in layers)
    assert all(isinstance(layer, nn.Module) for layer in layers.values())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_changes_stand_beside_keys_and_values(method: str) -> None:
    model, ids = tiny("llama"), sample_ids()
    prefix, change = trained_for("prefix", model), trained_for(method, model)
    both = replace(change, sites=prefix.sites)
    with torch.no_grad():
        answers = []
        for value in (prefix, change, both):
            with injected(model, [value]):
                answers.append(output(model, ids))
    assert not torch.allclose(answers[2], answers[0], atol=1e-3)
    assert not torch.allclose(answers[2], answers[1], atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "t5"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_scores_and_gradients_of_rows_with_their_own_changes(family: str, checkpoint: bool) -> None:
    """Packed rows, a last layer for the labels alone, and pairs of rows and choices: each is its own foreword's."""
    model = tiny(family)
    values = [trained_for("lora", model, seed=seed) for seed in (1, 2)]
    rows, own, choices = [[5, 6, 7, 8], [9, 10], [20] * 6], [1, 0, 1], [[40, 41], [50], [60, 61, 62]]

    def ask(some: list[list[int]], index: list[int]) -> tuple[Tensor, Tensor]:
        factors = [pair.b.detach().requires_grad_() for value in values for pair in value.adapters.values()]
        each = iter(factors)
        grown = [
            replace(v, adapters={n: LowRank(pair.a, next(each)) for n, pair in v.adapters.items()}) for v in values
        ]
        with checkpointing(model, checkpoint), injected(model, grown, index):
            scores = choice_scores(model, some, choices, 0)
            torch.autograd.backward(scores.sum())
        found = [torch.zeros_like(f) if f.grad is None else f.grad for f in factors]
        return scores.detach(), torch.cat([g.flatten() for g in found])

    scores, gradient = ask(rows, own)
    alone = [ask([row], [place]) for row, place in zip(rows, own, strict=True)]
    torch.testing.assert_close(scores, torch.cat([s for s, _ in alone]), atol=1e-4, rtol=1e-4)
    expected = torch.stack([g for _, g in alone]).sum(0)
    assert (gradient - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("family", ["llama", "gpt2", "bart"])
def test_scores_under_other_weights(family: str) -> None:
    model, changed, value = tiny(family), tiny(family), full(family)
    rows, choices = [[5, 6, 7, 8], [9, 10]], [[40, 41], [50]]
    with torch.no_grad():
        for name, tensor in value.weights.items():
            changed.get_parameter(name).copy_(tensor)
        plain, expected = choice_scores(model, rows, choices, 0), choice_scores(changed, rows, choices, 0)
        with injected(model, [value]):
            got = choice_scores(model, rows, choices, 0)
        again = choice_scores(model, rows, choices, 0)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(again, plain)
