"""LoRA and full fine-tuning: what is trained, where it starts, and what cannot be."""

from __future__ import annotations

import pytest
import torch

from foreword.core.inject.value import Foreword, equal
from foreword.errors import SettingsError
from foreword.methods.base import Start, make, make_writer
from foreword.testing.method_contracts import TEXT, tiny, trained_for, writer_for


def names(method: str, family: str, classes: int = 0, **settings: object) -> list[str]:
    """What a method trains on a tiny base."""
    start = Start(tiny(family), "guidance", TEXT, classes=classes)
    value = make_writer(make(method, settings), start).write()
    return [*value.adapters, *value.weights]


def test_lora_starts_at_the_prompt_itself() -> None:
    value = writer_for("lora", tiny("llama")).write().detach()
    assert value.text == "guidance"
    assert all(pair.a.shape[0] == 8 for pair in value.adapters.values())
    assert not any(pair.b.any() for pair in value.adapters.values())
    bound = max(float(pair.a.abs().max()) * pair.a.shape[1] ** 0.5 for pair in value.adapters.values())
    assert 0.9 < bound <= 1


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("all-linear", 21),
        ("q_proj", 3),
        ("q_proj,v_proj", 6),
        (["q_proj", "model.layers.0.mlp.up_proj"], 4),
        ("*.layers.2.*", 7),
    ],
)
def test_targets(targets: object, expected: int) -> None:
    assert len(names("lora", "llama", target_modules=targets)) == expected


def test_lora_scales_by_alpha_over_r() -> None:
    values = []
    for alpha in (4.0, 8.0):
        writer = writer_for("lora", tiny("llama"), r=4, lora_alpha=alpha)
        with torch.no_grad():
            for parameter in writer.parameters():
                parameter.fill_(1.0)
        values.append(next(iter(writer.write().adapters.values())))
    assert torch.equal(2 * values[0].b, values[1].b)
    assert torch.equal(values[0].a, values[1].a)


@pytest.mark.parametrize(
    ("family", "train", "expected"),
    [
        ("llama", "top:1", {"model.layers.2.", "model.norm."}),
        ("llama", "head", {"lm_head.weight"}),
        ("llama", "*.layers.0.mlp.*", {"model.layers.0.mlp."}),
        ("gpt2", "top:2", {"transformer.h.1.", "transformer.h.2.", "transformer.ln_f."}),
        ("gpt2", "head", {"transformer.wte.weight"}),
        ("bert", "top:1", {"encoder.layer.2."}),
        ("modernbert", "top:1", {"layers.2.", "final_norm."}),
        ("t5", "top:1", {"encoder.block.1.", "encoder.final_layer_norm.", "decoder.block.1.", "decoder.final_"}),
        ("bart", "top:1", {"model.encoder.layers.1.", "model.decoder.layers.2."}),
        ("opt", "top:1", {"model.decoder.layers.2.", "model.decoder.final_layer_norm."}),
        ("lstm", "top:1", {"model.layers.1."}),
    ],
)
def test_what_full_trains(family: str, train: str, expected: set[str]) -> None:
    found = names("full", family, train=train)
    assert {start for start in expected if any(name.startswith(start) for name in found)} == expected
    assert all(name.startswith(tuple(expected)) for name in found)


def test_all_is_everything_but_a_pooler_that_nobody_reads() -> None:
    known = [name for name, _ in tiny("bert").named_parameters()]
    assert names("full", "bert") == [name for name in known if "pooler" not in name]


def test_a_classification_head_alone() -> None:
    writer = make_writer(make("full", {"train": "head"}), Start(tiny("bert"), "g", TEXT, classes=3))
    value = writer.write()
    assert not value.weights
    assert value.head["weight"].shape == (3, 32)
    assert sorted(n for n, p in writer.named_parameters() if p.requires_grad) == ["bias", "weight"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_foreword_is_a_start(method: str) -> None:
    model = tiny("llama")
    other = trained_for(method, model)
    settings = {"init": "foreword", **({"r": 2, "lora_alpha": 3.0} if method == "lora" else {"train": "top:1"})}
    value = make_writer(make(method, settings), Start(model, "guidance", TEXT, other)).write().detach()
    assert value.tensors().keys() == other.tensors().keys()
    assert all(torch.allclose(value.tensors()[n], t, rtol=1e-6, atol=0) for n, t in other.tensors().items())
    assert method == "lora" or equal(value, other)
    for nothing in (None, Foreword(text="x")):
        with pytest.raises(SettingsError, match="needs a foreword"):
            make(method, {"init": "foreword"}).writer(Start(model, "g", TEXT, nothing))


@pytest.mark.parametrize(
    ("method", "settings", "problem"),
    [
        ("lora", {"r": 0}, "at least 1"),
        ("lora", {"lora_alpha": 0}, "greater than 0"),
        ("lora", {"target_modules": "q_porj"}, "no linear layer"),
        ("lora", {"target_modules": "lm_head"}, "no linear layer"),
        ("full", {"train": "top:0"}, "number of layers"),
        ("full", {"train": "top:x"}, "number of layers"),
        ("full", {"train": "top:4"}, "fewer layers"),
        ("full", {"train": "*.nothing"}, "no weight"),
    ],
)
def test_what_cannot_be_is_refused(method: str, settings: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        names(method, "llama", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "layers"), [("prefix", {0, 1, 2}), ("lora", {0, 1, 2}), ("full", {-1, 0, 1, 2})])
def test_a_writer_knows_the_layers_of_what_it_trains(method: str, layers: set[int]) -> None:
    for classes in (0, 2):
        start = Start(tiny("bert"), "guidance", TEXT, classes=classes)
        writer = make_writer(make(method), start)
        trained = {name for name, p in writer.named_parameters() if p.requires_grad}
        assert set(writer.layers.values()) == layers
        assert writer.layers.keys() <= trained
        assert trained - writer.layers.keys() <= {"weight", "bias"}
