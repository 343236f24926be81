"""What each method promises beyond the contracts."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from foreword.core.inject import initial_values
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, equal
from foreword.errors import SettingsError
from foreword.methods.base import Start, Writer, make, make_writer, registry
from foreword.testing.method_contracts import TEXT, gradients, output, sample_ids, tiny, writer_for


def trained(writer: Writer, family: str = "llama", steps: int = 3) -> Foreword:
    model = tiny(family)
    optimizer = torch.optim.SGD([p for p in writer.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        gradients(model, writer)
        optimizer.step()
    return writer.write().detach()


def test_the_first_position_of_a_text_prefix_never_moves_and_the_others_do() -> None:
    model = tiny("llama")
    start = initial_values.from_ids(model, TEXT)
    value = trained(make_writer(make("prefix"), Start(model, "g", TEXT)))
    for name, kv in value.sites.items():
        assert torch.equal(kv.keys[0], start[name].keys[0])
        assert torch.equal(kv.values[0], start[name].values[0])
        assert (kv.keys[1:] - start[name].keys[1:]).abs().amax((1, 2)).min() > 0
        assert (kv.values[1:] - start[name].values[1:]).abs().amax((1, 2)).min() > 0


@pytest.mark.parametrize(("init", "moves"), [("text", False), ("random", True)])
def test_a_random_start_trains_every_position(init: str, moves: bool) -> None:
    model = tiny("llama")
    writer = make_writer(make("prefix", {"init": init, "num_virtual_tokens": 4}), Start(model, "g", TEXT))
    before, after = writer.write().detach(), trained(writer)
    assert all((torch.equal(before.sites[n].keys[0], after.sites[n].keys[0])) != moves for n in after.sites)


def test_chosen_layers_are_trained_and_the_others_keep_the_text() -> None:
    model = tiny("llama")
    start = initial_values.from_ids(model, TEXT)
    writer = make_writer(make("prefix", {"layers": "1:"}), Start(model, "g", TEXT))
    value = trained(writer)
    assert torch.equal(value.sites["decoder.self.0"].keys, start["decoder.self.0"].keys)
    assert not torch.equal(value.sites["decoder.self.2"].keys, start["decoder.self.2"].keys)
    random = make_writer(make("prefix", {"layers": "1:", "init": "random"}), Start(model, "g", TEXT)).write()
    assert random.sites.keys() == {"decoder.self.1", "decoder.self.2"}


def test_chosen_sites_are_used() -> None:
    value = make_writer(make("prefix", {"sites": "decoder.cross.*"}), Start(tiny("t5"), "g", TEXT)).write()
    assert {name.rsplit(".", 1)[0] for name in value.sites} == {"decoder.cross"}


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_begins_as_if_its_decoder_had_written_nothing(family: str) -> None:
    model = tiny(family)
    value = make_writer(make("prefix"), Start(model, "g", TEXT)).write()
    # Above the first layer the cross attention to the text has a part in it.
    name = "decoder.self.0"
    begun = initial_values.from_ids(model, [int(model.config.decoder_start_token_id)] * len(TEXT))[name]
    assert torch.equal(value.sites[name].values[0], begun.values[0])
    # Close to the start token everywhere, and no two positions alike, or they would learn the same.
    assert (value.sites[name].values - begun.values).abs().max() < 0.2
    assert (value.sites[name].keys - begun.keys)[1:].unique(dim=0).shape[0] == len(TEXT) - 1
    other = make_writer(make("prefix"), Start(model, "g", TEXT[::-1])).write()
    assert torch.equal(value.sites[name].keys, other.sites[name].keys)
    assert not torch.equal(value.sites["decoder.cross.0"].keys, other.sites["decoder.cross.0"].keys)


@pytest.mark.parametrize(
    "settings",
    [{"sites": "encoder.*"}, {"layers": "9:"}, {"layers": "all"}, {"num_virtual_tokens": 1}, {"init": "foreword"}],
    ids=str,
)
def test_a_prefix_that_cannot_be_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        make_writer(make("prefix", settings), Start(tiny("llama"), "g", TEXT))


@pytest.mark.parametrize("method", ["prefix", "prompt", "ptuning"])
def test_a_foreword_can_be_the_start_of_another(method: str) -> None:
    model = tiny("llama")
    first = trained(make_writer(make("prefix" if method == "prefix" else "prompt"), Start(model, "g", TEXT)))
    again = make_writer(make(method, {"init": "foreword"}), Start(model, "g", TEXT, foreword=first)).write().detach()
    for name, tensor in first.tensors().items():
        assert torch.allclose(again.tensors()[name], tensor, atol=1e-6)


@pytest.mark.parametrize("method", ["prefix", "prompt", "ptuning"])
@pytest.mark.parametrize("length", [2, 5, 12])
def test_as_many_virtual_tokens_as_asked_for(method: str, length: int) -> None:
    settings = {"num_virtual_tokens": length}
    value = make_writer(make(method, settings), Start(tiny("llama"), "g", TEXT)).write()
    assert value.num_virtual_tokens == length


@pytest.mark.parametrize("settings", [{"reparameterise": True, "hidden_size": 8}])
@pytest.mark.parametrize("family", ["llama", "t5", "deepseek_v3"])
def test_the_mlp_starts_at_the_text_and_every_weight_of_it_trains(settings: dict[str, object], family: str) -> None:
    model = tiny(family)
    start = Start(model, "g", TEXT)
    plain, writer = make_writer(make("prefix"), start).write().detach(), make_writer(make("prefix", settings), start)
    for name, kv in writer.write().sites.items():
        assert torch.allclose(kv.keys, plain.sites[name].keys, atol=1e-6)
    found = gradients(model, writer)
    assert all(found[n].abs().max() > 0 for n, p in writer.named_parameters() if p.requires_grad)
    # The file holds keys and values alone: the network is gone.
    assert writer.write().tensors().keys() == plain.tensors().keys()


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_p_tuning_starts_at_the_text_and_its_network_trains(encoder: str) -> None:
    model = tiny("llama")
    writer = make_writer(make("ptuning", {"encoder": encoder}), Start(model, "g", TEXT))
    assert torch.allclose(writer.write().prompt, initial_values.embeddings_of(model, TEXT), atol=1e-6)  # type: ignore[arg-type]
    found = gradients(model, writer)
    assert all(found[n].abs().max() > 0 for n, p in writer.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("method", sorted(registry()))
def test_the_same_start_gives_the_same_values_whatever_was_drawn_before(method: str) -> None:
    values = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        values.append(
            make_writer(make(method), Start(tiny("llama"), "g", (), seed=5, slots=(None,) * 3)).write().detach()
        )
    assert equal(*values)


def test_a_vocabulary_start_is_made_of_words() -> None:
    model = tiny("llama")
    prompt = make_writer(make("prompt", {"init": "vocabulary", "num_virtual_tokens": 6}), Start(model)).write().prompt
    table = model.get_input_embeddings().weight
    assert prompt is not None
    assert all((table - row).abs().amax(1).min() < 1e-6 for row in prompt.detach())


def test_a_head_stands_beside_any_method() -> None:
    model = tiny("bert")
    value = make_writer(make("prefix"), Start(model, "g", TEXT, classes=3)).write()
    assert value.head["weight"].shape == (3, model.config.hidden_size)
    assert value.head["bias"].shape == (3,)
    assert value.sites.keys() == find_sites(model).sites.keys()


def test_unknown_methods_and_settings_are_named_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean prefix"):
        make("prefx")
    with pytest.raises(SettingsError, match="did you mean num_virtual_tokens"):
        make("prefix", {"num_virtual_token": 3})
    with pytest.raises(SettingsError, match="layers"):
        make("prefix", {"layers": 3.5})


def test_a_wrong_type_is_told_in_words() -> None:
    for key, value, expected in (("layers", 3, "text"), ("num_virtual_tokens", "x", "a whole number or none")):
        with pytest.raises(SettingsError) as caught:
            make("prefix", {key: value})
        assert caught.value.expected == expected


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("prefix", {"num_virtual_tokens": 0}, "at least 1"),
        ("prompt", {"num_virtual_tokens": -1}, "at least 1"),
        ("ptuning", {"hidden_size": 0}, "at least 1"),
        ("prefix", {"num_virtual_tokens": "many"}, "a whole number"),
        ("ptuning", {"encoder": "gru"}, "mlp or lstm"),
        ("lora", {"target_modules": 3}, "text"),
    ],
)
def test_settings_out_of_range_are_refused_in_words(name: str, settings: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingsError, match=f"expected: {expected}"):
        make(name, settings)


def test_methods_say_whether_they_work_in_layers_and_what_they_start_from() -> None:
    for name, method in registry().items():
        writer = writer_for(name, tiny("llama"))
        assert method.in_layers == bool(writer.layers), name
        assert bool(method.starts_from) == ("init" in {field.name for field in fields(method)}), name
        found = getattr(writer.write(), method.starts_from or "text")
        assert len(found) or name == "text"


def test_every_setting_survives_the_manifest() -> None:
    for name, kind in registry().items():
        method = make(name)
        assert make(name, method.settings()) == method
        assert method.settings().keys() == {f.name for f in fields(kind)}


def test_a_bfloat16_base_is_trained_in_single_precision() -> None:
    model = tiny("llama").to(torch.bfloat16)  # type: ignore[arg-type]
    writer = make_writer(make("prefix"), Start(model, "g", TEXT))
    assert {p.dtype for p in writer.parameters()} == {torch.float32}
    with torch.no_grad(), injected(model, [writer.write()]):
        assert output(model, sample_ids()).dtype == torch.bfloat16


def test_a_change_of_a_prefix_is_measured_in_the_size_of_its_site() -> None:
    model = tiny("llama")
    start = Start(model, "guidance", TEXT)
    first = make_writer(make("prefix"), start).write()
    for by, dims in {"site": (0, 1, 2), "head": (0, 2)}.items():
        writer = make_writer(make("prefix", {"scale": by}), start)
        with torch.no_grad():
            for parameter in writer.parameters():
                parameter += 1.0  # type: ignore[misc]
        for name, kv in writer.write().sites.items():
            for moved, before in ((kv.keys, first.sites[name].keys), (kv.values, first.sites[name].values)):
                size = before[1:].square().mean(dims, keepdim=True).sqrt()
                assert torch.allclose(moved[1:] - before[1:], size.expand_as(moved[1:]), atol=1e-5)
                assert torch.equal(moved[0], before[0])
    plain = make_writer(make("prefix", {"scale": "none"}), start)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter += 1.0  # type: ignore[misc]
    moved = plain.write().sites["decoder.self.0"].keys
    assert torch.allclose(moved[1:], first.sites["decoder.self.0"].keys[1:] + 1)
