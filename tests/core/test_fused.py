"""Fused operations give the model's own gradients, keep fewer activations, and leave nothing behind."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from foreword.core.attention import attend, fused_layers
from foreword.core.attention.fused_layers import fused as merged
from foreword.core.inject.sites import find_sites
from foreword.testing.method_contracts import FAMILIES, gradients, sample_ids, tiny, writer_for

# What of each family's own modules is replaced; who computes something else keeps its own.
EXPECTED = {"llama": "LlamaMLP LlamaRMSNorm", "mistral": "MistralMLP MistralRMSNorm", "gemma2": "", "gpt2": ""}


def _layered(family: str) -> bool:
    """A recurrent base has no layers to compute again."""
    return not find_sites(tiny(family)).recurrent


def kinds(model: PreTrainedModel) -> str:
    return " ".join(sorted({type(module).__name__ for module in fused_layers._replaceable(model)[0]}))


FORMATS = [torch.float32, torch.bfloat16, torch.float16]


# In float16 a gated layer's largest numbers are beyond the format, so that nothing can be said of it.
@pytest.mark.parametrize("dtype", FORMATS[:2], ids=str)
@pytest.mark.parametrize("family", EXPECTED)
def test_only_what_computes_the_same_is_replaced(family: str, dtype: torch.dtype) -> None:
    model = tiny(family).to(dtype)  # type: ignore[arg-type]
    modules, sources = fused_layers._replaceable(model)
    assert " ".join(sorted({type(module).__name__ for module in modules})) == EXPECTED[family]
    assert len(sources) == (family != "gpt2")


def results(function: Callable[..., object], given: list[Tensor]) -> list[Tensor]:
    """What a function of tensors gives, and the gradients of the first two."""
    out = function(*given)
    parts = out if isinstance(out, tuple) else (out,)
    weights = [torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p) for p in parts]
    total = torch.stack([(p * w).float().sum() for p, w in zip(parts, weights, strict=True)]).sum()
    return [*parts, *torch.autograd.grad(total, [x for x in given if x.requires_grad])]


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_a_norm_and_a_gated_layer_are_the_models_own_in_every_format(dtype: torch.dtype, scale: float) -> None:
    """In bfloat16 bit for bit at nearly every number: both round at the same places."""
    model = tiny("llama").to(dtype)  # type: ignore[arg-type]
    x = (torch.randn(4, 50, 32, generator=torch.Generator().manual_seed(0)) * scale).to(dtype).requires_grad_()
    for module in (model.model.norm, model.model.layers[0].mlp):
        own = results(module, [x])
        with merged(model):
            ours = results(module, [x])
        for found, expected in zip(ours, own, strict=True):
            assert found.dtype == expected.dtype == dtype
            size = expected.float().abs().amax(-1, keepdim=True)
            off = (found.float() - expected.float()).abs() / size
            assert off.max() <= torch.finfo(dtype).eps * (8 if dtype == torch.float32 else 1)
            assert (off > 0).float().mean() < 0.02 or dtype == torch.float32


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_rotated_states_are_the_familys_own_in_every_format(dtype: torch.dtype) -> None:
    model = tiny("llama").to(dtype)  # type: ignore[arg-type]
    source = sys.modules[type(model).__module__]
    maker = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 50, 8, generator=maker).to(dtype).requires_grad_() for heads in (4, 2))
    cos, sin = model.model.rotary_emb(query, torch.arange(50)[None])
    own = results(source.apply_rotary_pos_emb, [query, key, cos, sin])
    wide = [x.detach().double().requires_grad_() for x in (query, key)]
    exact = results(source.apply_rotary_pos_emb, [*wide, cos.double(), sin.double()])
    with merged(model):
        ours = results(source.apply_rotary_pos_emb, [query, key, cos, sin])
    for found, expected, true in zip(ours, own, exact, strict=True):
        assert found.dtype == expected.dtype == dtype
        errors = [float((x - true).detach().abs().max() / true.detach().abs().max()) for x in (found, expected)]
        # Rounded once less than the model's own, so no farther from the exact one.
        assert errors[0] <= max(errors[1], torch.finfo(dtype).eps)


def test_a_model_that_is_made_shorter_is_judged_again() -> None:
    model = tiny("llama")
    with merged(model):
        pass
    model.to(torch.bfloat16)  # type: ignore[arg-type]
    writer = writer_for("prefix", model)
    expected = gradients(model, writer)
    with merged(model):
        found = gradients(model, writer)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0.05, atol=0.02 * float(gradient.abs().max()))


@pytest.mark.parametrize(
    ("family", "checkpoint"),
    [(name, again) for name in FAMILIES for again in (False, True) if _layered(name) or not again],
)
def test_gradients_are_the_models_own(family: str, checkpoint: bool) -> None:
    model = tiny(family)
    writer = writer_for("prefix", model)
    expected = gradients(model, writer, checkpoint)
    with merged(model):
        found = gradients(model, writer, checkpoint)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=2e-4, atol=1e-6)


def test_a_trained_weight_gets_its_gradient() -> None:
    model = tiny("llama").requires_grad_(True)

    def found() -> dict[str, Tensor]:
        model.zero_grad()
        model(input_ids=sample_ids()).logits.pow(2).mean().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = found()
    with merged(model):
        torch.testing.assert_close(found(), expected, rtol=2e-4, atol=1e-6)


def kept_bytes(act: Callable[[], object]) -> int:
    sizes = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The storage is kept too: a freed one's address would be given again.
        sizes[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        act()
    return sum(storage.nbytes() for storage in sizes.values())


def test_a_gated_mlp_keeps_two_activations_instead_of_three() -> None:
    model = tiny("llama")
    mlp: nn.Module = model.model.layers[0].mlp
    x = torch.randn(1, 64, model.config.hidden_size, requires_grad=True)
    wide = 64 * model.config.intermediate_size * 4
    own = kept_bytes(lambda: mlp(x))
    with merged(model):
        assert own - kept_bytes(lambda: mlp(x)) == wide


def test_a_module_that_does_something_more_keeps_its_own() -> None:
    model = tiny("llama")
    kind = type(model.model.layers[0].mlp)
    clamped = type("ClampedMLP", (kind,), {"forward": lambda self, x: kind.forward(self, x).clamp(max=0)})
    for layer in model.model.layers:
        layer.mlp.__class__ = clamped
    assert kinds(model) == "LlamaRMSNorm"


def test_each_instance_is_judged_by_itself_also_with_large_numbers() -> None:
    """One clamp far from zero, as DeepSeek-V4's and GPT-OSS's gated layers have."""
    model = tiny("llama")
    kind = type(model.model.layers[0].mlp)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = kind.forward(self, x)
        return out.clamp(-1e4, 1e4)

    model.model.layers[1].mlp.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    replaced = fused_layers._replaceable(model)[0]
    assert [layer.mlp in replaced for layer in model.model.layers] == [True, False, True]


def test_other_threads_and_passes_without_gradients_are_untouched() -> None:
    model = tiny("llama")
    norm, source = model.model.norm, sys.modules[type(model).__module__]
    own, x = source.apply_rotary_pos_emb, torch.randn(1, 3, 32, requires_grad=True)
    names: list[str] = []

    def graph() -> None:
        names.append(type(norm(x).grad_fn).__name__)

    with merged(model):
        graph()
        thread = threading.Thread(target=graph)
        thread.start()
        thread.join()
        with torch.no_grad():
            assert norm(x).grad_fn is None
    graph()
    assert names[0] == "_NormBackward"
    assert "_NormBackward" not in names[1:]
    assert source.apply_rotary_pos_emb is own
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("rows", [1, 4])
def test_groups_of_heads_are_read_as_they_are(rows: int) -> None:
    """As transformers' function, which copies keys and values for every head of a group."""
    maker = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(rows, heads, 5, 8, generator=maker).requires_grad_() for heads in (6, 2, 2))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    module = nn.Module()
    module.num_key_value_groups = 3  # type: ignore[assignment]
    ours, _ = attend._sdpa(module, query, key, value, mask, False, scaling=0.3)
    stock, _ = attend.sdpa_attention_forward(module, query, key, value, mask, is_causal=False, scaling=0.3)
    torch.testing.assert_close(ours, stock)
    for found, expected in zip(
        *(torch.autograd.grad(o.pow(2).sum(), (query, key, value)) for o in (ours, stock)), strict=True
    ):
        torch.testing.assert_close(found, expected)
