"""PEFT checkpoints in and out: equal tensors, equal answers in PEFT itself, and refusal of what would differ."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import PreTrainedModel

from foreword.artifact.manifest import BaseRecord, Manifest
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue, equal
from foreword.errors import FileFormatError, SettingsError
from foreword.export.peft import export_peft, import_peft
from foreword.testing.method_contracts import output, sample_ids, tiny

P = 5
MANIFEST = Manifest(
    base=BaseRecord(id="tiny", architecture="A", kind="decoder"), method="prefix", task={"template": "t"}
)
DECODERS = ("llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "qwen3", "gpt_neox")


def self_sites(model: PreTrainedModel) -> list[str]:
    return [name for name, site in find_sites(model).sites.items() if site.kind == "self"]


def prefix(model: PreTrainedModel, scale: float = 0.5) -> Foreword:
    g = torch.Generator().manual_seed(1)
    sites = {
        name: KeyValue(
            scale * torch.randn(P, s.heads, s.key_size, generator=g),
            scale * torch.randn(P, s.heads, s.value_size, generator=g),
        )
        for name, s in find_sites(model).sites.items()
    }
    return Foreword(sites=sites)


def prompt(model: PreTrainedModel) -> Foreword:
    return Foreword(prompt=torch.randn(P, find_sites(model).embedding_size, generator=torch.Generator().manual_seed(1)))


def ours(model: PreTrainedModel, foreword: Foreword, mask: Tensor | None = None) -> Tensor:
    with torch.no_grad(), injected(model, [foreword]):
        return output(model, sample_ids(), mask)


@torch.no_grad()
def theirs(model: Any, family: str, mask: Tensor | None = None) -> Tensor:
    ids = sample_ids()
    arguments = {"decoder_input_ids": ids} if family in ("t5", "bart") else {}
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids) if mask is None else mask, **arguments)[0]
    # For a soft prompt PEFT gives the outputs at the virtual tokens too.
    return logits[:, logits.shape[1] - ids.shape[1] :]


def peft_config(method: str, family: str) -> Any:
    task = {"bert": "FEATURE_EXTRACTION", "t5": "SEQ_2_SEQ_LM", "bart": "SEQ_2_SEQ_LM"}.get(family, "CAUSAL_LM")
    if method == "prompt":
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=P, num_transformer_submodules=1)
    if method == "ptuning":
        return peft.PromptEncoderConfig(
            task_type=task, num_virtual_tokens=P, encoder_hidden_size=8, num_transformer_submodules=1
        )
    if method == "cartridge":
        return peft.CartridgeConfig(task_type=task, num_virtual_tokens=P, num_frozen_tokens=1)
    projection = method == "projected"
    return peft.PrefixTuningConfig(
        task_type=task,
        num_virtual_tokens=P,
        prefix_projection=projection,
        encoder_hidden_size=8 if projection else None,  # type: ignore[arg-type]
    )


def trained_in_peft(method: str, family: str, folder: Path) -> Any:
    torch.manual_seed(3)
    model = peft.get_peft_model(tiny(family), peft_config(method, family)).eval()
    model.save_pretrained(str(folder))
    return model


@pytest.mark.parametrize("family", DECODERS)
def test_an_exported_prefix_gives_the_same_logits_in_peft(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    foreword = prefix(base)
    expected = ours(base, foreword)
    export_peft(foreword, MANIFEST, tmp_path, base)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    assert model.active_peft_config.base_model_name_or_path == "tiny"
    assert model.active_peft_config.task_type == "CAUSAL_LM"
    torch.testing.assert_close(theirs(model, family), expected, atol=1e-4, rtol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours(tiny(family), Foreword()), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((family, m) for family in DECODERS for m in ("prefix", "prompt")),
        ("llama", "projected"),
        ("llama", "ptuning"),
        ("llama", "cartridge"),
    ],
)
def test_an_imported_checkpoint_gives_the_same_logits_as_in_peft(family: str, method: str, tmp_path: Path) -> None:
    expected = theirs(trained_in_peft(method, family, tmp_path), family)
    base = tiny(family)
    foreword = import_peft(tmp_path, self_sites(base))
    assert foreword.num_virtual_tokens == P
    torch.testing.assert_close(ours(base, foreword), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", [*DECODERS, "bert", "t5", "bart"])
def test_an_exported_prompt_gives_the_same_logits_in_peft(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    foreword = prompt(base)
    expected = ours(base, foreword)
    export_peft(foreword, None, tmp_path, base)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(theirs(model, family), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["bert", "t5", "bart"])
def test_an_imported_prompt_of_an_encoder_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    expected = theirs(trained_in_peft("prompt", family, tmp_path), family)
    base = tiny(family)
    torch.testing.assert_close(ours(base, import_peft(tmp_path, [])), expected, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_peft_generates_the_same_tokens_with_an_export(method: str, tmp_path: Path) -> None:
    base = tiny("llama")
    foreword = prefix(base) if method == "prefix" else prompt(base)
    ids = sample_ids(rows=1)
    settings: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    with injected(base, [foreword]):
        expected = base.generate(input_ids=ids, **settings)
    export_peft(foreword, None, tmp_path, base)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    assert torch.equal(model.generate(input_ids=ids, **settings), expected)


def test_padded_rows_agree_too(tmp_path: Path) -> None:
    base = tiny("llama")
    mask = torch.ones_like(sample_ids())
    mask[1, 4:] = 0
    expected = ours(base, prefix(base), mask)[mask.bool()]
    export_peft(prefix(base), None, tmp_path, base)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    torch.testing.assert_close(theirs(model, "llama", mask)[mask.bool()], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_out_and_in_again_is_bit_equal(method: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base = tiny("llama")
    plain = (prefix(base) if method == "prefix" else prompt(base)).to(dtype=dtype)
    foreword = Foreword("Guidance, 你好\n", plain.prompt, plain.sites)
    assert export_peft(foreword, MANIFEST, tmp_path / "new" / "folder", base) == tmp_path / "new" / "folder"
    assert equal(import_peft(tmp_path / "new" / "folder", self_sites(base)), foreword)
    kept = json.loads((tmp_path / "new" / "folder" / "foreword.json").read_text("utf-8"))
    assert Manifest.from_json_text(json.dumps(kept["manifest"])) == MANIFEST


def test_in_and_out_again_keeps_pefts_tensor(tmp_path: Path) -> None:
    trained_in_peft("prefix", "llama", tmp_path / "a")
    base = tiny("llama")
    export_peft(import_peft(tmp_path / "a", self_sites(base)), None, tmp_path / "b", base)
    a, b = (safetensors.torch.load_file(tmp_path / n / "adapter_model.safetensors") for n in "ab")
    assert torch.equal(a["prompt_embeddings"], b["prompt_embeddings"])


def test_a_download_cache_keeps_files_behind_links(tmp_path: Path) -> None:
    trained_in_peft("prompt", "llama", tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "b" / name).symlink_to(tmp_path / "a" / name)
    assert equal(import_peft(tmp_path / "b", []), import_peft(tmp_path / "a", []))


def _without_layer(value: Foreword) -> Foreword:
    return Foreword(sites={name: kv for name, kv in value.sites.items() if name != "decoder.self.1"})


def _other_shape(value: Foreword) -> Foreword:
    kv = value.sites["decoder.self.1"]
    return Foreword(sites={**value.sites, "decoder.self.1": KeyValue(kv.keys, kv.values[..., :-1])})


def _other_type(value: Foreword) -> Foreword:
    kv = value.sites["decoder.self.1"]
    return Foreword(sites={**value.sites, "decoder.self.1": KeyValue(kv.keys.half(), kv.values.half())})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_without_layer, "every layer"),
        (_other_shape, "different shapes"),
        (_other_type, "different shapes"),
        (lambda value: Foreword("text"), "it is a text"),
        (lambda value: Foreword(sites=value.sites, head={"weight": torch.ones(2, 2)}), "head"),
        (lambda value: Foreword(slots=torch.ones(2, 32)), "soft slots inside"),
    ],
)
def test_what_peft_cannot_hold_is_refused(change: Callable[[Foreword], Foreword], problem: str, tmp_path: Path) -> None:
    base = tiny("llama")
    with pytest.raises(SettingsError, match=problem):
        export_peft(change(prefix(base)), MANIFEST, tmp_path / "x", base)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next", "bert", "t5", "bart"])
def test_prefixes_that_peft_would_answer_differently_are_refused(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    with pytest.raises(SettingsError, match="cannot exchange"):
        export_peft(prefix(base), None, tmp_path, base)


def test_another_base_or_convention_is_refused(tmp_path: Path) -> None:
    base = tiny("llama")
    with pytest.raises(SettingsError, match="names other heads"):
        export_peft(prefix(base), None, tmp_path, tiny("gpt2"))
    with pytest.raises(SettingsError, match="positions"):
        export_peft(prefix(base), MANIFEST.model_copy(update={"positions": "content"}), tmp_path, base)


def test_prefixes_of_encoder_decoders_are_not_imported(tmp_path: Path) -> None:
    trained_in_peft("prefix", "bart", tmp_path)
    with pytest.raises(SettingsError, match="encoder-decoder"):
        import_peft(tmp_path, ["decoder.self.0", "decoder.self.1", "decoder.self.2"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    trained_in_peft("prefix", "llama", folder)
    return folder


SITES = ["decoder.self.0", "decoder.self.1", "decoder.self.2"]


def copied(checkpoint: Path, tmp_path: Path, **changes: object) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config.update(changes)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"peft_type": "LOHA"}, "not a foreword"),
        ({"peft_type": None}, "not a foreword"),
        ({"peft_type": ["PREFIX_TUNING"]}, "not a foreword"),
        ({"num_virtual_tokens": 4}, "another shape than"),
        ({"num_virtual_tokens": 10**9}, "too many"),
        ({"num_virtual_tokens": True}, "missing or wrong"),
        ({"num_virtual_tokens": -5}, "missing or wrong"),
        ({"num_virtual_tokens": "5"}, "missing or wrong"),
        ({"num_layers": 2}, "another shape"),
        ({"num_attention_heads": 3}, "another shape"),
        ({"num_attention_heads": None}, "missing or wrong"),
        ({"token_dim": 8}, "another shape than"),
        ({"token_dim": 2**40}, "another shape than"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    change: dict[str, object], problem: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert import_peft(checkpoint, SITES).num_virtual_tokens == P
    with pytest.raises(FileFormatError, match=problem):
        import_peft(copied(checkpoint, tmp_path, **change), SITES)


def test_a_prefix_of_an_encoder_is_not_imported(checkpoint: Path) -> None:
    with pytest.raises(SettingsError, match="encoder"):
        import_peft(checkpoint, ["encoder.self.0", "encoder.self.1", "encoder.self.2"])


def test_missing_and_damaged_parts_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be opened"):
        import_peft(tmp_path, SITES)
    folder = copied(checkpoint, tmp_path)
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for text in ("", "[]", "{", '{"peft_type": 1, "peft_type": 2}', '{"a": NaN}', "[" * 100_000):
        config.write_text(text)
        with pytest.raises(FileFormatError, match="JSON"):
            import_peft(folder, SITES)
    shutil.copy(checkpoint / config.name, config)
    data = weights.read_bytes()
    for end in range(0, len(data), 7):
        weights.write_bytes(data[:end])
        with pytest.raises(FileFormatError):
            import_peft(folder, SITES)
    for tensors in ({}, {"a": torch.ones(2)}, {"prompt_embeddings": torch.ones(2)}):
        safetensors.torch.save_file(tensors, weights)
        with pytest.raises(FileFormatError):
            import_peft(folder, SITES)
    extra = {**safetensors.torch.load(data), "base_model.score.weight": torch.ones(2, 2)}
    safetensors.torch.save_file(extra, weights)
    with pytest.raises(FileFormatError, match="one tensor"):
        import_peft(folder, SITES)


def test_a_pickle_is_never_opened(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"prompt_embeddings": 1}))
    with pytest.raises(FileFormatError, match="is a pickle"):
        import_peft(folder, SITES)
    (folder / "adapter_model.bin").rename(folder / "adapter_model.safetensors")
    with pytest.raises(FileFormatError, match="Python pickle"):
        import_peft(folder, SITES)


def test_a_text_that_belongs_to_other_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    base = tiny("llama")
    export_peft(Foreword("text", None, prefix(base).sites), None, tmp_path, base)
    assert import_peft(tmp_path, SITES).text == "text"
    shutil.copy(checkpoint / "adapter_model.safetensors", tmp_path / "adapter_model.safetensors")
    with pytest.raises(FileFormatError, match="does not belong"):
        import_peft(tmp_path, SITES)
