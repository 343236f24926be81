"""The contracts on bases to which something has happened: compiled, cached statically, in short numbers, attached to
twice, moved, left by an exception."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.testing import method_contracts
from foreword.testing.method_contracts import CONTRACTS, close, sample_ids, tiny, trained_for, writer_for
from foreword.training.attach import attach

Change = Callable[[PreTrainedModel], PreTrainedModel]
METHODS = ("prefix", "prompt", "lora", "full", "slots")


def compiled(model: PreTrainedModel) -> PreTrainedModel:
    model.compile(backend="eager")
    return model


def static(model: PreTrainedModel) -> PreTrainedModel:
    assert model.generation_config is not None
    model.generation_config.cache_implementation = "static"
    return model


def attached_twice(model: PreTrainedModel) -> PreTrainedModel:
    first = attach(model, writer_for("prefix", model))
    second = attach(model, writer_for("lora", model))
    first.detach()
    base: PreTrainedModel = second.detach()
    return base


def attached_and_moved(model: PreTrainedModel) -> PreTrainedModel:
    attached = attach(model, writer_for("prefix", model))
    attached.to(torch.float64)  # type: ignore[arg-type]
    attached.to(torch.float32)  # type: ignore[arg-type]
    base: PreTrainedModel = attached.detach()
    return base


def after_an_exception(model: PreTrainedModel) -> PreTrainedModel:
    with pytest.raises(IndexError), injected(model, [trained_for("prefix", model)]):
        model(input_ids=torch.tensor([[10**6]]))
    with pytest.raises(IndexError), injected(model, [trained_for("lora", model)]):
        model(input_ids=torch.tensor([[10**6]]))
    return model


def run(monkeypatch: pytest.MonkeyPatch, change: Change, contract: str, method: str, family: str = "llama") -> None:
    monkeypatch.setattr(method_contracts, "tiny", lambda name, *args: change(tiny(name, *args)))
    CONTRACTS[contract](method, family)


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [attached_twice, attached_and_moved, after_an_exception])
def test_contracts_hold_afterwards(monkeypatch: pytest.MonkeyPatch, change: Change, method: str, contract: str) -> None:
    run(monkeypatch, change, contract, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma3", "deepseek_v3"])
def test_a_static_cache_decodes_as_the_whole_pass(monkeypatch: pytest.MonkeyPatch, family: str, method: str) -> None:
    run(monkeypatch, static, "5 generate", method, family)


# torch's tracer reads .grad of tensors that are none of its leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.compat
@pytest.mark.parametrize("contract", ["1 gradients", "5 generate", "6 base untouched", "10 threads"])
@pytest.mark.parametrize("method", ["prefix", "lora"])
def test_contracts_hold_compiled(monkeypatch: pytest.MonkeyPatch, method: str, contract: str) -> None:
    torch._dynamo.reset()
    run(monkeypatch, compiled, contract, method)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_a_compiled_base_sees_every_foreword_that_comes_and_goes() -> None:
    torch._dynamo.reset()
    model, ids = tiny("llama"), sample_ids()
    values = {method: trained_for(method, model) for method in ("prefix", "lora", "full")}

    def outputs() -> dict[str, torch.Tensor]:
        out = {}
        with torch.no_grad():
            for method, value in values.items():
                out[f"before {method}"] = model(input_ids=ids, use_cache=False).logits
                with injected(model, [value]):
                    out[method] = model(input_ids=ids, use_cache=False).logits
        return out

    expected = outputs()
    model.compile(backend="eager")
    got = outputs()
    for name, logits in expected.items():
        torch.testing.assert_close(got[name], logits, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bert", "t5"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("contract", [name for name in CONTRACTS if name[0] in "1468"])
def test_contracts_hold_in_bfloat16(monkeypatch: pytest.MonkeyPatch, contract: str, method: str, family: str) -> None:
    """Up to what three digits leave; a row of another foreword is off by far more."""
    short = lambda model: model.to(torch.bfloat16)  # noqa: E731
    monkeypatch.setattr(
        method_contracts, "close", lambda got, want, _, what: close(got.float(), want.float(), 0.08, what)
    )
    run(monkeypatch, short, contract, method, family)
