"""A tiny GGUF file, written here, becomes a folder that loads; a kill or a damaged file leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from foreword.core.base.gguf import convert_gguf
from foreword.core.base.load import load_base
from foreword.errors import BaseError, UnsupportedBaseError

E, LAYERS, HEADS, FF = 32, 2, 4, 48
MERGES = ["Ċ Ċ", "Ġ Ġ"]


def byte_letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write(path: Path, *, architecture: str = "llama", pre: str = "smollm") -> dict[str, np.ndarray[Any, Any]]:
    """A random Llama of two layers with a byte-level vocabulary; returns its tensors by their GGUF names."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_letters(), "ĊĊ", "ĠĠ"]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(E)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(tokens), E), "output_norm": (E,)}
    for layer in range(LAYERS):
        block = {"attn_norm": (E,), "ffn_norm": (E,), "ffn_gate": (FF, E), "ffn_up": (FF, E), "ffn_down": (E, FF)}
        block |= {f"attn_{part}": (E, E) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    random = np.random.default_rng(0)
    tensors = {f"{name}.weight": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.compat
def test_a_gguf_loads_as_the_model_it_holds(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    tensors = write(path)
    base = load_base(path, device="cpu")
    assert (base.kind, base.architecture, base.context, base.id) == ("decoder", "LlamaForCausalLM", 128, str(path))
    assert base.tokenizer.model_max_length == 128
    assert base.tokenizer.chat_template
    weights = base.model.state_dict()
    down = torch.from_numpy(tensors["blk.1.ffn_down.weight"])
    assert torch.equal(weights["model.layers.1.mlp.down_proj.weight"], down)
    # llama.cpp interleaves the two halves of each rotary head.
    query = torch.from_numpy(tensors["blk.1.attn_q.weight"]).reshape(HEADS, 4, 2, E).swapaxes(1, 2).reshape(E, E)
    assert torch.equal(weights["model.layers.1.self_attn.q_proj.weight"], query)


@pytest.mark.compat
def test_digits_are_split_by_the_rule_that_the_file_names(cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "digits.gguf", pre="smollm")
    write(tmp_path / "plain.gguf", pre="gpt-2")
    digits, plain = (load_base(tmp_path / f"{name}.gguf").tokenizer for name in ("digits", "plain"))
    assert digits.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
    assert plain.tokenize("x\n\n12") == ["x", "Ċ", "Ċ", "1", "2"]
    assert digits.decode(digits("a  1 é")["input_ids"]) == "a  1 é"


def test_it_is_converted_once_and_shows_how_far_it_is(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write(path)
    seen: list[tuple[str, int, int]] = []
    first = convert_gguf(path, progress=lambda *place: seen.append(place))
    assert first.parent == cache / "gguf"
    assert first.name.startswith("tiny-")
    names = {name for name, _, _ in seen}
    assert len(names) > 2
    assert all(0 < done <= total for _, done, total in seen)
    seen.clear()
    changed = (first / "config.json").stat().st_mtime_ns
    assert convert_gguf(path, progress=lambda *place: seen.append(place)) == first
    assert {name for name, _, _ in seen} == {"read GGUF"}
    assert (first / "config.json").stat().st_mtime_ns == changed


def test_an_interrupted_conversion_leaves_nothing_and_can_be_repeated(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write(path)

    def interrupt(name: str, done: int, total: int) -> None:
        if name != "read GGUF":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_gguf(path, progress=interrupt)
    assert list((cache / "gguf").iterdir()) == []
    assert (convert_gguf(path) / "model.safetensors").is_file()


def test_an_architecture_that_cannot_be_read_is_refused_by_name(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    write(path, architecture="nonsense")
    with pytest.raises(UnsupportedBaseError, match="nonsense") as caught:
        load_base(path)
    assert "hub id" in str(caught.value.hint)
    assert list((cache / "gguf").iterdir()) == []


def test_a_cut_off_file_is_refused(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    write(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BaseError):
        load_base(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(BaseError, match="not a GGUF"):
        load_base(path)
    path.write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 40)
    with pytest.raises(BaseError, match="damaged"):
        load_base(path)
