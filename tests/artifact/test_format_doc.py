"""A reader written from docs/file-format.md alone, with nothing of foreword, sees what foreword wrote."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import DynamicCache

from foreword.artifact import header, peek, store
from foreword.artifact.manifest import MAX_GOLDEN, BaseRecord, Manifest
from foreword.core.inject.injection import injected
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue
from foreword.testing.method_contracts import output, sample_ids, tiny

DOC = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text("utf-8")
MANIFEST = Manifest(base=BaseRecord(id="b", architecture="A", kind="decoder"), method="prefix")


def test_bytes_and_digests_are_as_described(tmp_path: Path) -> None:
    foreword = Foreword(
        "Go, 你好: ",
        torch.tensor([[1.0, -2.5], [0.1, 3e-9]]),
        head={"weight": torch.ones(2, 2), "bias": torch.zeros(2)},
    )
    store.save(tmp_path / "x", foreword, MANIFEST)
    data = (tmp_path / "x").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    metadata = entries.pop("__metadata__")
    assert hashlib.sha256(metadata["foreword"].encode()).hexdigest() == metadata["manifest_digest"]
    digest = hashlib.sha256(json.loads(metadata["foreword"])["text"].encode())
    for name in sorted(entries):
        entry = entries[name]
        assert entry["dtype"] == "F32"
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        shape = "(" + ", ".join(map(str, entry["shape"])) + ("," if len(entry["shape"]) == 1 else "") + ")"
        digest.update(f"|{name}|{shape}|torch.float32|".encode() + data[begin:end])
    assert digest.hexdigest() == metadata["digest"]
    begin = 8 + length + entries["prompt"]["data_offsets"][0]
    assert struct.unpack_from("<4f", data, begin) == tuple(foreword.tensors()["prompt"].flatten().tolist())


def test_keys_and_values_are_past_key_values_of_a_decoder(tmp_path: Path) -> None:
    base = tiny("llama")
    sites = {
        name: KeyValue(torch.randn(4, s.heads, s.key_size), torch.randn(4, s.heads, s.value_size))
        for name, s in find_sites(base).sites.items()
    }
    store.save(tmp_path / "x", Foreword(sites=sites), MANIFEST)
    with safe_open(tmp_path / "x", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    cache, ids = DynamicCache(), sample_ids(rows=1)
    for layer in range(len(sites)):
        pair = (tensors[f"{part}/decoder.self.{layer}"].transpose(0, 1)[None] for part in ("keys", "values"))
        cache.update(*pair, layer)
    with torch.no_grad(), injected(base, [Foreword(sites=sites)]):
        expected = output(base, ids)
    with torch.no_grad():
        got = base(input_ids=ids, past_key_values=cache).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_every_field_and_limit_is_described() -> None:
    table = DOC[DOC.index("## The manifest") : DOC.index("## Versions")]
    described = set(
        re.findall(r"`([a-z_]+)[.`]", "\n".join(row.split("|")[1] for row in table.splitlines() if row[:1] == "|"))
    )
    assert set(Manifest.model_fields) <= described
    for limit in (
        f"{peek.MAX_VIRTUAL_TOKENS:,}",
        f"{header.MAX_TENSORS:,}",
        f"{peek.MAX_NAME}\ncharacters",
        "64 GiB",
        "32 MiB",
        "2^24",
    ):
        assert limit in DOC or limit.replace("\n", " ") in re.sub(r"\s+", " ", DOC)
    assert (header.MAX_FILE_BYTES, header.MAX_HEADER_BYTES, header.MAX_DIMENSION) == (64 * 2**30, 32 * 2**20, 2**24)
    assert f"at most {MAX_GOLDEN}" in DOC
