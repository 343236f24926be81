"""Finding, loading and freezing a base; its fingerprint; what is refused and with what words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foreword.core.base.architecture import kind_of
from foreword.core.base.device import pick_device, pick_dtype
from foreword.core.base.fingerprint import fingerprint, weights_digest
from foreword.core.base.load import base_of, fingerprint_differences, load_base
from foreword.core.base.locate import resolve
from foreword.errors import BaseError, ResourceError, SettingsError, UnsupportedBaseError
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer, tiny

KINDS = {"ForCausalLM": "decoder", "LMHeadModel": "decoder", "ForConditionalGeneration": "encoder-decoder"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "llama"
    tiny("llama").save_pretrained(folder)
    byte_tokenizer(chat=True).save_pretrained(folder)
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.compat
def test_loads_a_folder_frozen_and_in_evaluation_mode(llama: Path) -> None:
    base = load_base(llama, device="cpu")
    assert (base.kind, base.architecture, base.revision) == ("decoder", "LlamaForCausalLM", None)
    assert base.id == str(llama)
    assert (base.context, base.hidden_size) == (tiny("llama").config.max_position_embeddings, 32)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert (base.device, base.dtype) == (torch.device("cpu"), torch.float32)
    reference = tiny("llama").state_dict()
    assert all(torch.equal(tensor, reference[name]) for name, tensor in base.model.state_dict().items())


@pytest.mark.compat
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_kind_and_reloads_with_the_same_fingerprint(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    name = FAMILIES[family].model
    expected = next((kind for suffix, kind in KINDS.items() if name.endswith(suffix)), "encoder")
    assert kind_of(model.config) == expected
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    loaded = load_base(tmp_path, device="cpu")
    assert loaded.kind == expected
    assert fingerprint_differences(base_of(model, byte_tokenizer()).fingerprint, loaded.fingerprint) == []


def test_an_encoder_has_one_fingerprint_with_and_without_its_head(tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    BertForMaskedLM(tiny("bert").config).save_pretrained(tmp_path)  # type: ignore[arg-type]
    byte_tokenizer().save_pretrained(tmp_path)
    bare, headed = load_base(tmp_path), load_base(tmp_path, task_head=True)
    assert (bare.architecture, headed.architecture) == ("BertModel", "BertForMaskedLM")
    assert not any("pooler" in name for name, _ in bare.model.named_parameters())
    assert bare.fingerprint == headed.fingerprint


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_the_fingerprint_is_of_the_stored_weights_whatever_the_number_format(
    llama: Path, tmp_path: Path, stored: str
) -> None:
    folder = copy_of(llama, tmp_path / stored)
    (folder / "model.safetensors").unlink()
    tiny("llama").to(getattr(torch, stored)).save_pretrained(folder)
    bases = {dtype: load_base(folder, dtype=dtype) for dtype in ("float32", "bfloat16", "float16", "auto")}
    assert {name: str(base.dtype) for name, base in bases.items()} == {
        **{name: f"torch.{name}" for name in ("float32", "bfloat16", "float16")},
        "auto": "torch.float32",  # it is small
    }
    assert len({json.dumps(base.fingerprint) for base in bases.values()}) == 1


def test_two_bases_that_round_to_the_same_float16_keep_their_fingerprints_apart(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "small")
    for name in ("one", "other"):
        model = tiny("llama")
        with torch.no_grad():
            # Below what float16 holds, and apart in bfloat16.
            model.model.embed_tokens.weight[5, 5] = 1e-12 if name == "one" else 2e-12
        copy_of(folder, tmp_path / name)
        model.save_pretrained(tmp_path / name)
    one, other = (load_base(tmp_path / name, dtype="float16") for name in ("one", "other"))
    assert torch.equal(one.model.model.embed_tokens.weight, other.model.model.embed_tokens.weight)
    assert one.fingerprint["weights"] != other.fingerprint["weights"]


def test_the_fingerprint_tells_what_changed(llama: Path, tmp_path: Path) -> None:
    base = load_base(llama)
    other = tiny("llama", seed=1)
    differences = fingerprint_differences(base.fingerprint, base_of(other, byte_tokenizer()).fingerprint)
    assert [line.split(" differs")[0] for line in differences] == ["the chat template", "the weights"]
    changed = copy_of(llama, tmp_path / "changed")
    edit(changed / "config.json", rms_norm_eps=0.5)
    (line,) = fingerprint_differences(base.fingerprint, load_base(changed).fingerprint)
    assert "config" in line
    tokenizer = byte_tokenizer(chat=True)
    tokenizer.add_tokens(["<extra>"])
    (line,) = fingerprint_differences(base.fingerprint, base_of(tiny("llama"), tokenizer).fingerprint)
    assert "tokenizer" in line


def test_one_changed_value_changes_the_digest_of_the_weights() -> None:
    tensor = torch.randn(64, 64)
    before = weights_digest([("w", tensor)])
    assert weights_digest([("w", tensor.clone())]) == before
    tensor[63, 17] += 1
    assert weights_digest([("w", tensor)]) != before
    assert weights_digest([("v", tensor)]) != weights_digest([("w", tensor)])


def test_a_large_model_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreword.core.base.fingerprint.FULL_LIMIT", 1000)
    monkeypatch.setattr("foreword.core.base.fingerprint.SAMPLED", 16)
    tensor = torch.randn(64, 64)
    before = weights_digest([("w", tensor)])
    assert weights_digest([("w", tensor * 1.5)]) != before
    tensor[0, 1] += 1  # between two samples
    assert weights_digest([("w", tensor)]) == before


def test_a_missing_padding_token_becomes_the_end_of_text_token() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    base = base_of(tiny("gpt2"), tokenizer)
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id


def test_the_context_of_roberta_is_shorter_than_its_table() -> None:
    model = tiny("roberta")
    base = base_of(model, byte_tokenizer())
    assert base.context == model.config.max_position_embeddings - model.config.pad_token_id - 1
    assert base_of(tiny("t5"), byte_tokenizer()).context is None


def test_names_that_look_like_paths_are_never_asked_of_the_hub(tmp_path: Path, llama: Path) -> None:
    assert resolve("owner/name") == ("owner/name", False)
    assert resolve(llama) == (str(llama), True)
    for name in ("./nothing", "~/nothing-here", "a/b/c", "/nothing", "nothing.gguf", "", tmp_path / "nothing"):
        with pytest.raises(BaseError) as caught:
            resolve(name)
        assert caught.value.hint


def test_a_typo_names_the_nearest(llama: Path) -> None:
    with pytest.raises(BaseError, match=r"did you mean .*llama") as caught:
        load_base(llama.parent / "lama")
    assert caught.value.expected
    assert caught.value.received


def test_an_unknown_hub_id_without_a_network_says_what_to_do() -> None:
    with pytest.raises(BaseError, match="HF_HUB_OFFLINE") as caught:
        load_base("nobody/no-such-model-here")
    assert caught.value.where == "nobody/no-such-model-here"


def test_pickles_are_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedBaseError, match="pickles") as caught:
        load_base(folder)
    assert "save_pretrained" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "words"),
    [("config.json", "no model"), ("model.safetensors", "no weights"), ("tokenizer", "without its tokenizer")],
)
def test_incomplete_folders_are_refused(llama: Path, tmp_path: Path, name: str, words: str) -> None:
    folder = copy_of(llama, tmp_path / "incomplete")
    for path in folder.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(BaseError, match=words) as caught:
        load_base(folder)
    assert caught.value.where == str(folder)


def test_an_adapter_is_not_a_base(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseError, match="adapter"):
        load_base(folder)


def test_a_checkpoint_with_missing_weights_is_refused(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy_of(llama, tmp_path / "headless")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "layers.1" in name)
    save_file({name: t for name, t in tensors.items() if name != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseError, match="does not hold all the weights"):
        load_base(folder)


def test_a_cut_off_checkpoint_is_refused(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "cut")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BaseError) as caught:
        load_base(folder)
    assert caught.value.hint


def test_code_that_comes_with_a_model_is_not_run(llama: Path, tmp_path: Path) -> None:
    folder = copy_of(llama, tmp_path / "code")
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    edit(folder / "config.json", model_type="own", auto_map=own)
    with pytest.raises(UnsupportedBaseError, match="never runs"):
        load_base(folder)
    assert not ran.exists()


def test_what_is_not_a_text_model_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig, WhisperConfig

    for config in (ViTConfig(), WhisperConfig()):
        with pytest.raises(UnsupportedBaseError, match="not a text model"):
            kind_of(config)


def test_devices_and_dtypes(llama: Path) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(SettingsError):
        pick_device("toaster")
    with pytest.raises(ResourceError, match="not there"):
        pick_device("cuda:99")
    with pytest.raises(SettingsError, match="bfloat16"):
        pick_dtype("int3")


def test_a_model_in_the_hubs_cache_loads_offline_with_its_commit(llama: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    entry = tmp_path / "home" / "hub" / "models--owner--tiny"
    copy_of(llama, entry / "snapshots" / commit)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(commit)
    # In a process of its own: the hub's library reads HF_HOME when it is imported.
    script = (
        "from foreword.core.base.load import load_base; b = load_base('owner/tiny'); print(b.id, b.revision, b.kind)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["owner/tiny", commit, "decoder"]
    assert done.stderr == ""


@pytest.mark.compat
def test_the_fingerprint_is_the_same_in_every_release() -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=264)
    found = fingerprint(config, byte_tokenizer(), [("w", torch.arange(6.0).reshape(2, 3))])
    assert {name: digest[:12] for name, digest in found.items()} == {
        "config": "f74f4adc6380",
        "tokenizer": "7a92e8b4ec7c",
        "chat_template": "none",
        "weights": "f8ef314e3659",
    }
