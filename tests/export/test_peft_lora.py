"""LoRA to PEFT and back: equal answers in PEFT itself, and refusal of what two factors a layer cannot say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.core.inject.injection import injected
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.value import Foreword, equal
from foreword.errors import FileFormatError, SettingsError
from foreword.export.peft import export_peft, import_peft
from foreword.methods.base import Start, make
from foreword.testing.method_contracts import output, sample_ids, tiny, trained_for

FAMILIES = ("llama", "gpt2", "gpt_neox", "gemma3", "bert", "t5")


def layers(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    return {name: sizes(layer) for name, layer in linear_layers(model).items()}


def ours(model: PreTrainedModel, value: Foreword) -> Tensor:
    with torch.no_grad(), injected(model, [value]):
        return output(model, sample_ids())


def close(got: Tensor, expected: Tensor) -> None:
    assert (got - expected).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))


@torch.no_grad()
def theirs(model: Any, family: str) -> Tensor:
    ids = sample_ids()
    more = {"decoder_input_ids": ids} if family == "t5" else {}
    found: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)[0]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_gives_the_same_outputs_in_peft_and_comes_back(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    value = trained_for("lora", base)
    expected, plain = ours(base, value), ours(base, Foreword())
    assert (expected - plain).abs().max() > 1e-2
    export_peft(value, None, tmp_path, base)
    assert equal(import_peft(tmp_path, [], layers(base)), value)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    close(theirs(model, family), expected)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}),
        ("llama", {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
        ("llama", {"r": 4, "target_modules": "all-linear", "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 3},
                   "alpha_pattern": {"v_proj": 5}}),
        ("gpt2", {"r": 2, "lora_alpha": 3, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
        ("bert", {"r": 2, "target_modules": ["query", "value"]}),
    ],
)  # fmt: skip
def test_a_checkpoint_of_peft_gives_the_same_outputs(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny(family), peft.LoraConfig(**settings)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    model.save_pretrained(str(tmp_path))
    base = tiny(family)
    value = import_peft(tmp_path, [], layers(base))
    assert len({pair.a.shape[0] for pair in value.adapters.values()}) == (3 if "rank_pattern" in settings else 1)
    close(ours(base, value), theirs(model, family))


def test_training_here_is_training_in_peft(tmp_path: Path) -> None:
    """The same start, data and optimizer: the same losses, step by step."""
    ids, base = sample_ids(4, 8), tiny("llama")
    torch.manual_seed(1)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear"}
    model: Any = peft.get_peft_model(tiny("llama"), peft.LoraConfig(**settings)).eval()
    model.save_pretrained(str(tmp_path))
    start = Start(base, foreword=import_peft(tmp_path, [], layers(base)))
    writer = make("lora", {"r": 4, "lora_alpha": 12, "init": "foreword"}).writer(start)

    def steps(parameters: list[Any], logits: Callable[[], Tensor]) -> list[float]:
        optimizer, losses = torch.optim.AdamW(parameters, lr=1e-2), []
        for _ in range(5):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(logits()[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    def asked() -> Tensor:
        with injected(base, [writer.write()]):
            return output(base, ids)

    here = steps(list(writer.parameters()), asked)
    there = steps([p for p in model.parameters() if p.requires_grad], lambda: model(input_ids=ids).logits)
    assert here == pytest.approx(there, abs=1e-4)
    assert here[-1] < here[0] - 0.1


def test_layers_of_other_ranks_go_out(tmp_path: Path) -> None:
    base = tiny("llama")
    value = trained_for("lora", base)
    name = list(value.adapters)[3]
    narrow = dict(value.adapters)
    pair = narrow[name]
    narrow[name] = type(pair)(pair.a[:3], pair.b[:, :3])
    mixed = Foreword("Go", adapters=narrow)
    export_peft(mixed, None, tmp_path, base)
    assert equal(import_peft(tmp_path, [], layers(base)), mixed)
    expected = ours(base, mixed)
    close(theirs(peft.PeftModel.from_pretrained(base, str(tmp_path)).eval(), "llama"), expected)


def test_a_model_with_another_head_around_the_base_is_understood(tmp_path: Path) -> None:
    base = tiny("bert")
    value = trained_for("lora", base)
    export_peft(value, None, tmp_path, base)
    tensors = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    renamed = {name.replace("base_model.model.", "base_model.model.bert."): t for name, t in tensors.items()}
    safetensors.torch.save_file(renamed, tmp_path / "adapter_model.safetensors")
    (tmp_path / "foreword.json").unlink()
    assert import_peft(tmp_path, [], layers(base)).adapters.keys() == value.adapters.keys()


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda c: c.update(use_dora=True), SettingsError, "use_dora"),
        (lambda c: c.update(bias="all"), SettingsError, "bias"),
        (lambda c: c.update(modules_to_save=["lm_head"]), SettingsError, "modules_to_save"),
        (lambda c: c.update(r=3), FileFormatError, "another rank"),
        (lambda c: c.update(r="8"), FileFormatError, "r is missing"),
        (lambda c: c.update(lora_alpha=0), FileFormatError, "lora_alpha"),
        (lambda c: c.update(lora_alpha=True), FileFormatError, "lora_alpha"),
        (lambda c: c.update(rank_pattern={"(a+)+$": 2}), FileFormatError, "no layer's name"),
        (lambda c: c.update(rank_pattern=[1]), FileFormatError, "not an object"),
        (lambda c: c.update(peft_type="LOHA"), FileFormatError, "not a foreword"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], None], error: type[Exception], problem: str, tmp_path: Path
) -> None:
    base = tiny("llama")
    export_peft(trained_for("lora", base), None, tmp_path, base)
    path = tmp_path / "adapter_config.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(error, match=problem):
        import_peft(tmp_path, [], layers(base))


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    base = tiny("llama")
    export_peft(trained_for("lora", base), None, tmp_path, base)
    (tmp_path / "foreword.json").unlink()
    path = tmp_path / "adapter_model.safetensors"
    good = safetensors.torch.load_file(path)
    a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    cases = {
        "two factors": {name: t for name, t in good.items() if name != a},
        "not LoRA": {**good, "base_model.model.lm_head.weight": torch.ones(2, 2)},
        "does not have": {name.replace("q_proj", "z_proj"): t for name, t in good.items()},
        "do not fit": {**good, a: good[a][:, 1:].contiguous()},
    }
    for problem, tensors in cases.items():
        safetensors.torch.save_file(tensors, path)
        with pytest.raises(FileFormatError, match=problem):
            import_peft(tmp_path, [], layers(base))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_peft_has_no_place_for_is_refused(method: str, tmp_path: Path) -> None:
    base = tiny("bert")
    value = trained_for(method, base)
    if method == "lora":
        value = Foreword(adapters=value.adapters, head={"weight": torch.ones(2, 32), "bias": torch.ones(2)})
    with pytest.raises(SettingsError, match="cannot exchange"):
        export_peft(value, None, tmp_path / "x", base)
    assert not (tmp_path / "x").exists()
