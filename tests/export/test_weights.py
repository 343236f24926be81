"""LoRA, soft prompts and whole models for other engines: bytes, out and in again, and what transformers loads."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foreword import api
from foreword.artifact.store import load
from foreword.cli.main import main
from foreword.core.inject.value import Foreword, LowRank, equal
from foreword.errors import FileFormatError, SettingsError
from foreword.export.llamacpp import decode_prompt, encode_prompt
from foreword.export.llamacpp_lora import decode_lora, encode_lora
from foreword.export.vllm import one_rank
from tests.export.conftest import full, lora, prompt
from tests.runs.conftest import save_tiny

IDS = torch.tensor([[5, 6, 7, 8]])
CONFIG = SimpleNamespace(model_type="llama", num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
Q_PROJ = "model.layers.0.self_attn.q_proj"


def logits(model: Any, value: Foreword | None = None) -> torch.Tensor:
    with torch.no_grad():
        if value is None:
            return model(IDS).logits
        with api.injected(model, [value]):
            return model(IDS).logits


def test_an_adapter_is_written_byte_by_byte() -> None:
    pair = LowRank(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0], [5.0], [6.0]]))

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def field(key: str, value: str) -> bytes:
        return text(key) + struct.pack("<I", 8) + text(value)

    name = "blk.0.attn_q.weight.lora_"
    expected = struct.pack("<4sIQQ", b"GGUF", 3, 2, 4)
    expected += field("general.architecture", "llama") + field("general.type", "adapter")
    expected += field("adapter.type", "lora") + text("adapter.lora.alpha") + struct.pack("<If", 6, 0.0)
    expected += text(name + "a") + struct.pack("<IQQIQ", 2, 2, 1, 0, 0)
    expected += text(name + "b") + struct.pack("<IQQIQ", 2, 1, 4, 0, 32)
    expected += b"\0" * (-len(expected) % 32)
    # Halves 3 4 | 5 6 of a head in neighbouring pairs.
    expected += struct.pack("<2f", 1, 2) + b"\0" * 24 + struct.pack("<4f", 3, 5, 4, 6)
    content = encode_lora({Q_PROJ: pair}, CONFIG)
    assert content[: len(expected)] == expected
    assert not content[len(expected) :].strip(b"\0")


def test_a_layer_that_the_engine_has_no_name_for_is_refused() -> None:
    with pytest.raises(SettingsError, match="no name for this layer"):
        encode_lora({"model.layers.0.gate": LowRank(torch.ones(1, 2), torch.ones(2, 1))}, CONFIG)


def test_no_cut_or_foreign_adapter_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    content = encode_lora({Q_PROJ: LowRank(torch.ones(1, 2), torch.ones(4, 1))}, CONFIG)
    for length in (0, 3, 20, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            decode_lora(path, [Q_PROJ], CONFIG)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="does not have"):
        decode_lora(path, ["model.layers.0.self_attn.k_proj"], CONFIG)


def test_an_alpha_of_another_tool_is_a_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    content = encode_lora({Q_PROJ: LowRank(torch.ones(2, 2), torch.ones(4, 2))}, CONFIG)
    key = b"adapter.lora.alpha" + struct.pack("<I", 6)
    path.write_bytes(content.replace(key + struct.pack("<f", 0), key + struct.pack("<f", 8)))
    assert decode_lora(path, [Q_PROJ], CONFIG)[Q_PROJ].b.tolist() == [[4.0, 4.0]] * 4


def test_a_soft_prompt_is_an_array_file_without_pickle() -> None:
    value = torch.tensor([[1.0, 2.0]])
    content = encode_prompt(value)
    assert content.startswith(b"\x93NUMPY")
    assert content.endswith(struct.pack("<2f", 1, 2))
    assert torch.equal(decode_prompt(content, "x"), value)
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    for wrong in (content[:-3], b"no", objects.getvalue(), encode_prompt(torch.tensor([[float("nan")]]))):
        with pytest.raises(FileFormatError):
            decode_prompt(wrong, "x")


@pytest.mark.parametrize(("kind", "source"), [(lora, "mine.lora.gguf"), (prompt, "mine.prompt.npy")])
def test_llamacpp_out_and_in_again_is_the_same_value(
    kind: Any, source: str, base: Any, file_of: Callable[[Foreword], Path], tmp_path: Path
) -> None:
    value = kind(base)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    flags = ["--set", f"gguf={tmp_path}/m.gguf", "--output-dir", str(tmp_path / "out")]
    assert main(["export", str(file_of(value)), "--to", "llamacpp", *flags]) == 0
    back = tmp_path / "back.foreword"
    assert main(["import", str(tmp_path / "out" / source), "--output", str(back), "--base", base.id]) == 0
    again = load(back)[0]
    assert equal(Foreword(value.text, again.prompt, adapters=again.adapters), value)
    assert torch.equal(logits(base.model, again), logits(base.model, value))


@pytest.mark.parametrize("kind", [lora, full])
def test_a_merged_model_loads_anywhere_and_answers_as_ours(
    kind: Any, base: Any, file_of: Callable[[Foreword], Path], tmp_path: Path
) -> None:
    value, out = kind(base), tmp_path / "merged"
    told = api.export(file_of(value), out, format="merged", base=base)
    assert {"config.json", "model.safetensors", "tokenizer.json", "foreword.json"} <= set(told["files"])
    theirs = logits(AutoModelForCausalLM.from_pretrained(out).eval())
    assert torch.allclose(theirs, logits(base.model, value), atol=1e-4)
    assert not torch.allclose(theirs, logits(base.model), atol=1e-2)
    assert AutoTokenizer.from_pretrained(out).encode("ab") == base.tokenizer.encode("ab")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".partial")]


def test_a_tied_table_is_merged_in_both_its_places(file_of: Callable[[Foreword], Path], tmp_path: Path) -> None:
    from foreword.export.merged import _state

    save_tiny(tmp_path / "gpt2", "gpt2")
    base = api.load_base(tmp_path / "gpt2")
    weight = base.model.get_parameter("transformer.wte.weight") + 1
    state = _state(base, {"transformer.wte.weight": weight})
    assert torch.equal(state["transformer.wte.weight"], weight)
    assert torch.equal(state["lm_head.weight"], weight)


def test_vllm_gets_one_rank_and_a_script_that_allows_it(
    base: Any, file_of: Callable[[Foreword], Path], tmp_path: Path
) -> None:
    value = lora(base)
    wider = one_rank(value)
    assert {pair.a.shape[0] for pair in wider.adapters.values()} == {3}
    assert torch.allclose(logits(base.model, wider), logits(base.model, value), atol=1e-5)
    api.export(file_of(value), tmp_path / "out", format="vllm", base=base)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (3, 3, {})
    script = (tmp_path / "out" / "serve.sh").read_text()
    assert "--enable-lora --max-lora-rank 8 --lora-modules mine=." in script


def test_vllms_prompt_client_puts_the_prompt_in_front_of_the_tables_rows(
    base: Any, file_of: Callable[[Foreword], Path], tmp_path: Path
) -> None:
    from foreword.export.engines.vllm_prompt_client import embeddings, table_of

    value = prompt(base)
    told = api.export(file_of(value), tmp_path / "out", format="vllm", base=base)
    assert {"mine.safetensors", "vllm_prompt_client.py", "serve.sh"} <= set(told["files"])
    vectors = embeddings(tmp_path / "out" / "mine.safetensors", table_of(base.id), IDS[0].tolist())
    with torch.no_grad():
        theirs = base.model(inputs_embeds=vectors[None]).logits[:, 4:]
    assert torch.allclose(theirs, logits(base.model, value), atol=1e-4)
    with pytest.raises(FileNotFoundError):
        table_of(tmp_path)
