"""Scores of choices, losses of completions and pooled states equal the plain way of computing each, on every family."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.attention.pass_context import PassContext, current
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import backbone, find_sites
from foreword.core.inject.value import Foreword
from foreword.core.passes.output_layer import logits_at
from foreword.core.passes.scoring import choice_scores, completion_losses, pad, pooled_states
from foreword.errors import SettingsError
from foreword.testing.method_contracts import FAMILIES, sample_ids, tiny, writer_for

KINDS = {family: find_sites(tiny(family)).kind for family in FAMILIES}
DECODERS = [family for family, kind in KINDS.items() if kind == "decoder"]
ENCODERS = [family for family, kind in KINDS.items() if kind == "encoder"]
BOTH = [family for family, kind in KINDS.items() if kind == "encoder-decoder"]

# One token, several, one that shares its first token with another, and rows shorter and longer than a window of 6.
CHOICES = ((40, 41, 42), (43,), (40, 44), (50, 51, 52, 53))
LENGTHS = (9, 2, 5)


def rows() -> list[list[int]]:
    return [row[:n] for row, n in zip(sample_ids(len(LENGTHS), max(LENGTHS)).tolist(), LENGTHS, strict=True)]


def value_for(model: PreTrainedModel) -> Foreword:
    return writer_for("prefix", model).write().detach()


def plain_logp(model: PreTrainedModel, row: Sequence[int], answer: Sequence[int]) -> Tensor:
    """-log p of each token of ``answer`` after ``row``, one forward pass without padding, all logits."""
    if model.config.is_encoder_decoder:
        begin = model.config.decoder_start_token_id
        logits = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[begin, *answer[:-1]]])).logits[0]
    else:
        logits = model(input_ids=torch.tensor([[*row, *answer[:-1]]]), use_cache=False).logits[0, len(row) - 1 :]
    return -logits.float().log_softmax(-1)[torch.arange(len(answer)), torch.tensor(list(answer))]


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    scale = max(1.0, expected.abs().max().item())
    assert (got - expected).abs().max().item() <= tolerance * scale, f"{got} is not {expected}"


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "foreword"])
@pytest.mark.parametrize("family", DECODERS + BOTH)
def test_choice_scores_equal_each_pair_alone(family: str, behind: bool) -> None:
    model = tiny(family)
    value = [value_for(model)] if behind else []
    with torch.no_grad(), injected(model, value):
        got = choice_scores(model, rows(), CHOICES, 0)
        alone = [[-plain_logp(model, row, choice).sum() for choice in CHOICES] for row in rows()]
    close(got, torch.tensor(alone))


@pytest.mark.parametrize(("family", "read"), [("llama", 3), ("gpt2", 3), ("mistral", 3 * 4), ("t5", 3 * 4)])
def test_choices_are_scored_in_one_pass(family: str, read: int) -> None:
    """Each input is read once where branches can be seen; where they cannot, each pair is a row of the same pass."""
    extra = sum(len(c) - 1 for c in CHOICES)
    tokens = {3: sum(LENGTHS) + 3 * extra, 12: 4 * sum(LENGTHS) + 3 * extra}[read]
    model, seen = tiny(family), []
    choice_scores(model, rows(), CHOICES, 0)  # asks the model once what it allows
    site = next(iter(find_sites(model).modules))
    handle = site.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(kwargs.get("hidden_states", *args[:1]).shape[:2]), with_kwargs=True
    )
    with torch.no_grad():
        choice_scores(model, rows(), CHOICES, 0)
    handle.remove()
    assert seen == [(1, tokens)] if KINDS[family] == "decoder" else [shape[0] for shape in seen] == [read]


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3", "gpt_oss"])
@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 7, 8, 13])
def test_choice_scores_at_the_edge_of_a_window(family: str, width: int) -> None:
    """The rows end just inside, at, and outside the window of 6, with and without virtual tokens in front."""
    model = tiny(family)
    row, choices = sample_ids(1, width).tolist(), ((40, 41), (42,))
    for value in ([], [value_for(model)]):
        with torch.no_grad(), injected(model, value):
            got = choice_scores(model, row, choices, 0)
            alone = torch.tensor([[-plain_logp(model, row[0], choice).sum() for choice in choices]])
        close(got, alone)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "t5"])
def test_choice_scores_have_the_gradient_of_each_pair_alone(family: str) -> None:
    model = tiny(family)
    writer = writer_for("prefix", model)
    parameters = [p for p in writer.parameters() if p.requires_grad]
    with injected(model, [writer.write()]):
        together = torch.autograd.grad(choice_scores(model, rows(), CHOICES, 0).log_softmax(-1)[:, 0].sum(), parameters)
    with injected(model, [writer.write()]):
        pairs = torch.stack([torch.stack([-plain_logp(model, r, c).sum() for c in CHOICES]) for r in rows()])
        alone = torch.autograd.grad(pairs.log_softmax(-1)[:, 0].sum(), parameters)
    for got, expected in zip(together, alone, strict=True):
        close(got, expected)


@pytest.mark.parametrize("family", DECODERS + BOTH)
def test_logits_at_equals_the_full_logits(family: str) -> None:
    """The output layer sees N places only; soft-capping, scaling and biases behind it give the same numbers."""
    model, ids = tiny(family), sample_ids(3, 7)
    at_rows, at = torch.tensor([0, 0, 2, 1]), torch.tensor([6, 0, 3, 3])
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if KINDS[family] == "encoder-decoder" else {})}
    seen: list[tuple[int, ...]] = []
    with torch.no_grad():
        full = model(**inputs, use_cache=False).logits
        handle = model.get_output_embeddings().register_forward_hook(lambda m, a, out: seen.append(tuple(out.shape)))
        got = logits_at(model, at_rows, at, **inputs)
        handle.remove()
    assert got.shape == (4, full.shape[-1])
    assert seen == [(1, 4, full.shape[-1])]
    close(got, full[at_rows, at], 1e-5)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_logits_at_leaves_nothing_behind_after_an_error() -> None:
    model = tiny("llama")
    with pytest.raises(IndexError):
        logits_at(model, torch.tensor([0]), torch.tensor([99]), input_ids=sample_ids())
    assert "forward" not in vars(model.get_output_embeddings())
    assert current() == PassContext()


@pytest.mark.parametrize("behind", [False, True], ids=["alone", "foreword"])
@pytest.mark.parametrize("family", DECODERS + BOTH)
def test_completion_losses_equal_each_row_alone(family: str, behind: bool) -> None:
    model = tiny(family)
    targets = [[60, 61, 2], [62, 2], [2]]
    with torch.no_grad(), injected(model, [value_for(model)] if behind else []):
        losses, owner = completion_losses(model, rows(), targets, 0)
        alone = [plain_logp(model, row, target) for row, target in zip(rows(), targets, strict=True)]
    assert owner.tolist() == [0, 0, 0, 1, 1, 2]
    close(losses, torch.cat(alone))


@pytest.mark.parametrize("family", ENCODERS)
def test_pooled_states_equal_each_row_alone(family: str) -> None:
    model = tiny(family)
    for value in ([], [value_for(model)]):
        for pooling in ("mean", "cls", "last"):
            with torch.no_grad(), injected(model, value):
                got = pooled_states(model, rows(), pooling, model.config.pad_token_id)
                hidden = [backbone(model)(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows()]
            wanted = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}[pooling]
            close(got, torch.stack([wanted(h) for h in hidden]))


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_pooled_states_behind_a_soft_prompt_are_the_contents(family: str) -> None:
    """Virtual tokens at the embedding are not pooled."""
    model = tiny(family)
    prompt = writer_for("prompt", model).write().detach()
    with torch.no_grad(), injected(model, [prompt]):
        together = pooled_states(model, rows(), "mean", model.config.pad_token_id)
        for index, row in enumerate(rows()):
            hidden = backbone(model)(input_ids=torch.tensor([row])).last_hidden_state
            assert hidden.shape[1] == len(row)
            close(together[index], hidden[0].mean(0))


@pytest.mark.parametrize("side", ["left", "right"])
def test_pad(side: str) -> None:
    batch = pad([[5, 6, 7], [8], []], 9, torch.device("cpu"), side)
    left = side == "left"
    assert batch.ids.tolist() == [[5, 6, 7], [9, 9, 8] if left else [8, 9, 9], [9, 9, 9]]
    assert batch.mask.tolist() == [[1, 1, 1], [0, 0, 1] if left else [1, 0, 0], [0, 0, 0]]


def test_a_row_without_tokens_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(SettingsError, match="no tokens"):
        choice_scores(model, [[5, 6], []], [[7], [8]], 0)
    with pytest.raises(SettingsError, match="no tokens"):
        completion_losses(model, [[]], [[7]], 0)
