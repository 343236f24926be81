"""A foreword that goes through a file comes back bit-equal; the file is deterministic and written atomically."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from foreword.artifact import safe_files, store
from foreword.artifact.manifest import BaseRecord, Golden, Manifest, MetricRecord
from foreword.core.inject.value import Foreword, KeyValue, LowRank, equal
from foreword.errors import FileFormatError, ForewordError

BASE = BaseRecord(
    id="tiny", architecture="LlamaForCausalLM", kind="decoder", fingerprint={"config": "c", "weights": "w"}
)


def manifest(**changes: object) -> Manifest:
    return Manifest(base=BASE, method="prefix", **changes)  # type: ignore[arg-type]


def prefix(P: int = 3, layers: int = 12, dtype: torch.dtype = torch.float32) -> Foreword:
    g = torch.Generator().manual_seed(0)
    sites = {
        f"decoder.self.{i}": KeyValue(
            torch.randn(P, 2, 4, generator=g).to(dtype), torch.randn(P, 2, 6, generator=g).to(dtype)
        )
        for i in range(layers)
    }
    return Foreword(sites=sites)


torch.manual_seed(0)
FOREWORDS = {
    "prefix": prefix(),
    "half": prefix(dtype=torch.float16),
    "bfloat16": prefix(dtype=torch.bfloat16),
    "prompt": Foreword(prompt=torch.randn(5, 7)),
    "text": Foreword(text="Decide. 你好 😀\n\n"),
    "head": Foreword(
        text="a", sites=prefix(layers=1).sites, head={"weight": torch.randn(2, 7), "bias": torch.zeros(2)}
    ),
    "mixed": Foreword(
        prompt=torch.randn(3, 5).half(), head={"weight": torch.randn(3, 5), "bias": torch.randn(3).bfloat16()}
    ),
    "lora": Foreword(text="a", adapters={"layers.0.q": LowRank(torch.randn(2, 5), torch.randn(3, 2))}),
    "weights": Foreword(
        head={"weight": torch.randn(2, 7), "bias": torch.zeros(2)},
        weights={"embed.weight": torch.randn(4, 3), "norm.scale": torch.randn(3).half(), "w": torch.tensor(2.0)},
    ),
    "nothing": Foreword(),
}


@pytest.mark.parametrize("name", FOREWORDS)
def test_a_foreword_comes_back_bit_equal(name: str, tmp_path: Path) -> None:
    foreword = FOREWORDS[name]
    path = tmp_path / "new" / "x.foreword"
    written = store.save(path, foreword, manifest())
    loaded, read = store.load(path)
    assert equal(loaded, foreword)
    assert read == written
    assert loaded.text == read.text == foreword.text
    assert list(loaded.tensors()) == list(foreword.tensors())


@pytest.mark.parametrize("name", ["prefix", "mixed", "weights"])
def test_a_long_file_is_mapped_and_stays_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_files, "MAPPED_FROM", 0)
    store.save(tmp_path / "x", FOREWORDS[name], manifest())
    before = (tmp_path / "x").read_bytes()
    loaded, _ = store.load(tmp_path / "x")
    assert equal(loaded, FOREWORDS[name])
    for tensor in loaded.tensors().values():
        tensor.zero_()
    assert (tmp_path / "x").read_bytes() == before
    (tmp_path / "x").write_bytes(before[:-1])
    with pytest.raises(FileFormatError, match="truncated"):
        store.load(tmp_path / "x")


def test_tensors_that_are_not_aligned_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_files, "MAPPED_FROM", 0)
    data = store.encode(FOREWORDS["prompt"], manifest())
    length = int.from_bytes(data[:8], "little")
    (tmp_path / "x").write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    assert equal(store.load(tmp_path / "x")[0], FOREWORDS["prompt"])


def test_a_file_has_the_lowest_version_that_knows_its_parts() -> None:
    written = {name: store.decode(store.encode(value, manifest()))[1] for name, value in FOREWORDS.items()}
    assert {name for name, read in written.items() if read.format_version == 2} == {"lora", "weights"}


def test_the_manifest_comes_back_with_its_order() -> None:
    full = manifest(
        settings={"learning_rate": 0.02, "layers": [1, 2], "mlp": None, "frozen": True},
        task={"verbalizer": {"zebra": " z", "apple": " a"}, "template": "{{ text }}\n"},
        positions="content",
        data_lock={"train": {"rows": 3, "ids": ["a", "b"]}},
        metrics={"accuracy": MetricRecord(value=0.5, low=0.4, high=0.6, level=0.95, rows=100)},
        golden=[Golden(input={"text": "x", "n": 1}, input_ids=[1, 2], output="y", scores=[-0.1, -3.0])] * 16,
        created="2026-01-31T10:00:00+00:00",
        libraries={"torch": "2.13.0"},
        license="Apache-2.0",
    )
    _, read = store.decode(store.encode(Foreword(), full))
    assert read == full
    assert list(read.task["verbalizer"]) == ["zebra", "apple"]  # type: ignore[arg-type]


def test_the_same_value_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    code = "import sys, tests.artifact.test_store as t; t.store.save(sys.argv[1], t.prefix(), t.manifest())"
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_safetensors_library_reads_the_file(tmp_path: Path) -> None:
    store.save(tmp_path / "x", FOREWORDS["mixed"], manifest())
    tensors = safetensors.torch.load_file(tmp_path / "x")
    for name, tensor in FOREWORDS["mixed"].tensors().items():
        assert torch.equal(tensors[name], tensor)


def test_tensors_start_at_a_multiple_of_their_item_size(tmp_path: Path) -> None:
    store.save(tmp_path / "x", FOREWORDS["mixed"], manifest())
    peeked = store.peek(tmp_path / "x")
    start = 8 + int.from_bytes((tmp_path / "x").read_bytes()[:8], "little")
    assert start % 8 == 0
    assert all((start + t.begin) % {"F32": 4, "F16": 2, "BF16": 2}[t.dtype] == 0 for t in peeked.tensors)


def test_a_header_whose_length_looks_like_a_pickle_is_read() -> None:
    for length in range(1300):
        data = store.encode(Foreword(), manifest(notes="x" * length))
        assert equal(store.decode(data)[0], Foreword())


def test_peek_tells_what_load_tells(tmp_path: Path) -> None:
    written = store.save(tmp_path / "x", prefix(), manifest())
    peeked = store.peek(tmp_path / "x")
    assert peeked.manifest == written
    assert peeked.num_virtual_tokens == prefix().num_virtual_tokens
    assert peeked.num_values == prefix().num_values
    assert peeked.digest == prefix().digest()
    assert peeked.file_bytes == (tmp_path / "x").stat().st_size
    assert [(t.name, t.shape) for t in peeked.tensors] == [(n, tuple(t.shape)) for n, t in prefix().tensors().items()]


def test_peeking_does_not_import_torch() -> None:
    code = "import sys, foreword.artifact.peek; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_foreword_with_a_graph_or_a_view_is_stored_by_value(tmp_path: Path) -> None:
    prompt = torch.randn(6, 8, requires_grad=True)[::2, ::2]
    store.save(tmp_path / "x", Foreword(prompt=prompt), manifest())
    loaded, _ = store.load(tmp_path / "x")
    assert equal(loaded, Foreword(prompt=prompt))
    assert not loaded.tensors()["prompt"].requires_grad


def test_equal_parts_do_not_share_memory_after_loading() -> None:
    data = store.encode(prefix(), manifest())
    (first, _), (second, _) = store.decode(data), store.decode(data)
    first.sites["decoder.self.0"].keys.zero_()
    assert equal(second, prefix())


@pytest.mark.parametrize(
    ("foreword", "problem"),
    [
        (Foreword(prompt=torch.randn(2, 2).double()), "cannot be stored"),
        (Foreword(prompt=torch.tensor([[1.0, float("nan")]])), "NaN"),
        (Foreword(prompt=torch.tensor([[1.0, float("inf")]])), "NaN or infinite"),
        (Foreword(prompt=torch.empty(0, 4)), "impossible shape"),
        (Foreword(head={"weight": torch.randn(2, 2)}), "a head is"),
        (Foreword(head={"scale": torch.randn(2)}), "no part"),
        (Foreword(text="half \ud800 of a pair"), "cannot be written"),
        (Foreword(sites={"../../etc": prefix(layers=1).sites["decoder.self.0"]}), "name of a tensor"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(foreword: Foreword, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(FileFormatError, match=problem):
        store.save(tmp_path / "x", foreword, manifest())
    assert (tmp_path / "x").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(tmp_path / "x", prefix(), manifest())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safe_files.os, "fsync", full)
    with pytest.raises(ForewordError, match="no space is left"):
        store.save(tmp_path / "x", prefix(P=9), manifest())
    assert equal(store.load(tmp_path / "x")[0], prefix())
    assert os.listdir(tmp_path) == ["x"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.save(tmp_path / "x", prefix(), manifest())
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
