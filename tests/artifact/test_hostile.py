"""Damaged and hostile files: each is refused with an error that names the file, and none is half loaded."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword.artifact import header, safe_files, store
from foreword.artifact.manifest import BaseRecord, Golden, Manifest, MetricRecord
from foreword.core.inject.value import Foreword, KeyValue, LowRank, equal
from foreword.errors import FileFormatError

FOREWORD = Foreword(
    text="Go: ", sites={"decoder.self.0": KeyValue(torch.arange(4.0).view(2, 1, 2), torch.ones(2, 1, 2))}
)
MANIFEST = Manifest(
    base=BaseRecord(id="b", architecture="A", kind="decoder"),
    method="prefix",
    text="Go: ",
    task={"labels": ["a", "b"]},
    metrics={"accuracy": MetricRecord(value=0.5)},
    golden=[Golden(input={"text": "x"}, input_ids=[1], output="y")],
)
DATA = store.encode(FOREWORD, MANIFEST)
Tree = dict[str, Any]


def take_apart(data: bytes = DATA) -> tuple[Tree, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(tree: Tree | str | bytes, body: bytes) -> bytes:
    text = json.dumps(tree) if isinstance(tree, dict) else tree
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + body


def changed_manifest(change: Callable[[Tree], object]) -> bytes:
    """The file with another manifest, with the digest that fits it: what an attacker would write."""
    tree, _ = take_apart()
    fields = json.loads(tree["__metadata__"]["foreword"])
    change(fields)
    return with_manifest_text(json.dumps(fields))


def with_manifest_text(text: str) -> bytes:
    tree, body = take_apart()
    tree["__metadata__"].update(foreword=text, manifest_digest=store.sha256(text))
    return put_together(tree, body)


def refused(data: bytes, tmp_path: Path, match: str = ".", *, by_peek: bool = True) -> FileFormatError:
    """Loading (and peeking) must raise; ``match`` is looked for in the problem alone, not in the path."""
    path = tmp_path / "hostile.foreword"
    path.write_bytes(data)
    for read in (store.peek, store.load) if by_peek else (store.load,):
        with pytest.raises(FileFormatError) as caught:
            read(path)
        assert re.search(match, caught.value.problem), caught.value.problem
        assert caught.value.where == str(path)
        assert caught.value.hint
    return caught.value


def test_the_small_file_itself_is_right() -> None:
    loaded, read = store.decode(DATA)
    assert equal(loaded, FOREWORD)
    assert read == MANIFEST
    assert equal(store.decode(put_together(*take_apart()))[0], FOREWORD)
    assert store.decode(with_manifest_text(MANIFEST.to_json_text()))[1] == MANIFEST


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for end in range(len(DATA)):
        with pytest.raises(FileFormatError):
            store.decode(DATA[:end])
    refused(DATA[:-1], tmp_path, "truncated")
    refused(b"", tmp_path, "truncated")


def test_bytes_at_the_end_are_refused(tmp_path: Path) -> None:
    refused(DATA + b"\0", tmp_path, "belong to no tensor")


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_refused_or_changes_nothing(bit: int) -> None:
    for place in range(len(DATA)):
        data = bytearray(DATA)
        data[place] ^= 1 << bit
        try:
            loaded, read = store.decode(bytes(data))
        except FileFormatError:
            continue
        assert (loaded.digest(), read) == (FOREWORD.digest(), MANIFEST), f"byte {place}"


@pytest.mark.parametrize("value", [0x00, 0x20, 0x22, 0x5C, 0x7D, 0xFF])
def test_every_overwritten_byte_is_refused_or_changes_nothing(value: int) -> None:
    for place in range(len(DATA)):
        data = DATA[:place] + bytes([value]) + DATA[place + 1 :]
        try:
            loaded, read = store.decode(data)
        except FileFormatError:
            continue
        assert (loaded.digest(), read) == (FOREWORD.digest(), MANIFEST), f"byte {place}"


def test_the_header_cannot_be_longer_than_the_file_or_the_limit(tmp_path: Path) -> None:
    refused(struct.pack("<Q", len(DATA)) + DATA[8:], tmp_path, "truncated")
    refused(struct.pack("<Q", 2**64 - 1) + DATA[8:], tmp_path, "header is too long")
    refused(struct.pack("<Q", header.MAX_HEADER_BYTES + 1) + DATA[8:], tmp_path, "header is too long")


def test_a_huge_sparse_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(DATA)
    os.truncate(path, header.MAX_FILE_BYTES + 1)
    for read in (store.load, store.peek):
        with pytest.raises(FileFormatError, match="too long"):
            read(path)


SITE = "keys/decoder.self.0"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"shape": [2**60, 2**60, 2]}, "impossible shape"),
        ({"shape": [10**4000, 1, 1]}, "not valid JSON|impossible shape"),
        ({"shape": [2**20, 2**20, 2**20]}, "does not have the bytes"),
        ({"shape": [0, 1, 2]}, "impossible shape"),
        ({"shape": [-2, -1, 2]}, "impossible shape"),
        ({"shape": [2.0, 1, 2]}, "impossible shape"),
        ({"shape": [True, 2, 2]}, "impossible shape"),
        ({"shape": "212"}, "impossible shape"),
        ({"shape": [2, 1, 3]}, "does not have the bytes"),
        ({"shape": [1, 1, 2]}, "does not have the bytes"),
        ({"shape": [2, 2]}, "wrong rank"),
        ({"shape": []}, "does not have the bytes"),
        ({"shape": [4, 1, 1]}, "do not have the same virtual tokens"),
        ({"shape": [1] * 9}, "impossible shape"),
        ({"dtype": "F64", "shape": [1, 1, 2]}, "wrong type"),
        ({"dtype": "I32"}, "wrong type"),
        ({"dtype": "BOOL", "shape": [16]}, "wrong type"),
        ({"dtype": "F8_E4M3"}, "wrong type"),
        ({"dtype": ["F32"]}, "wrong type"),
        ({"dtype": "F16", "shape": [2, 2, 2]}, "do not have the same|not the ones"),
        ({"data_offsets": [8, 24]}, "gap"),
        ({"data_offsets": [16, 32]}, "gap"),
        ({"data_offsets": [16, 0]}, "does not have the bytes"),
        ({"data_offsets": [-16, 0]}, "malformed offsets"),
        ({"data_offsets": [2**63, 2**63 + 16]}, "gap"),
        ({"data_offsets": [0, 16, 32]}, "malformed offsets"),
        ({"data_offsets": [0.0, 16.0]}, "malformed offsets"),
        ({"data_offsets": None}, "malformed offsets"),
        ({"extra": 1}, "malformed"),
    ],
)
def test_a_wrong_entry_is_refused(entry: Tree, problem: str, tmp_path: Path) -> None:
    tree, body = take_apart()
    tree[SITE].update(entry)
    try:
        data = put_together(tree, body)
    except ValueError:  # Python itself does not write so many digits
        text = json.dumps({**tree, SITE: {**tree[SITE], "shape": [0, 1, 1]}}).replace(
            "[0, 1, 1]", f"[1{'0' * 5000}, 1, 1]"
        )
        data = put_together(text, body)
    refused(data, tmp_path, problem, by_peek=False)


def test_a_header_must_start_with_its_brace(tmp_path: Path) -> None:
    tree, body = take_apart()
    refused(put_together(" " + json.dumps(tree), body), tmp_path, "not a safetensors file")


def test_sites_of_different_lengths_are_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    for i, part in enumerate(("keys", "values")):
        tree[f"{part}/decoder.self.1"] = {"dtype": "F32", "shape": [1, 1, 1], "data_offsets": [32 + 4 * i, 36 + 4 * i]}
    refused(put_together(tree, body + b"\0" * 8), tmp_path, "do not have the same number of virtual tokens")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(DATA)
    size = os.fstat

    def shorter(descriptor: int) -> os.stat_result:
        status = list(size(descriptor))
        status[6] -= 1
        return os.stat_result(status)

    monkeypatch.setattr(safe_files.os, "fstat", shorter)
    with pytest.raises(FileFormatError) as caught:
        store.load(tmp_path / "x")
    assert "changed" in caught.value.problem


def test_a_path_that_is_swapped_before_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(DATA)
    (tmp_path / "link").symlink_to(tmp_path / "x")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(safe_files.os, "lstat", lambda _: os.stat(tmp_path / "x"))
    for name in ("link", "pipe"):
        with pytest.raises(FileFormatError) as caught:
            store.load(tmp_path / name)
        assert re.search("cannot be opened|a pipe", caught.value.problem)


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    tree["values/decoder.self.0"]["data_offsets"] = tree[SITE]["data_offsets"]
    refused(put_together(tree, body[:16]), tmp_path, "overlaps")


def test_too_many_virtual_tokens_are_refused(tmp_path: Path) -> None:
    P = 65_537
    tree, _ = take_apart()
    for i, name in enumerate((SITE, "values/decoder.self.0")):
        tree[name] = {"dtype": "F16", "shape": [P, 1, 1], "data_offsets": [i * 2 * P, (i + 1) * 2 * P]}
    refused(put_together(tree, b"\0" * (4 * P)), tmp_path, "too many virtual tokens")


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    tree, _ = take_apart()
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    many = {"__metadata__": tree["__metadata__"], **{f"head/{i}": entry for i in range(header.MAX_TENSORS + 1)}}
    refused(put_together(many, b"\0" * 4), tmp_path, "too many tensors")


@pytest.mark.parametrize(
    "site",
    [
        "../../../etc/passwd",
        "a/../b",
        "..",
        "a..b",
        "/etc/passwd",
        "a//b",
        "a/",
        "./a",
        "C:\\a",
        "a b",
        "a\0b",
        "a\nb",
        "é",
        "a;rm",
        "x" * 300,
        "\u202e",
    ],
)
def test_path_tricks_in_names_are_refused(site: str, tmp_path: Path) -> None:
    tree, body = take_apart()
    tree[f"keys/{site}"] = tree.pop(SITE)
    tree[f"values/{site}"] = tree.pop("values/decoder.self.0")
    refused(put_together(tree, body), tmp_path, "name of a tensor")


@pytest.mark.parametrize("name", ["keys", "keys/", "weights", "head/scale", "prompt/a", "Keys/decoder.self.0", ""])
def test_unknown_names_are_refused(name: str, tmp_path: Path) -> None:
    tree, body = take_apart()
    tree[name] = tree.pop(SITE)
    refused(put_together(tree, body), tmp_path, "no part of|name of a tensor")


def test_a_file_of_version_1_has_no_weights(tmp_path: Path) -> None:
    tree, body = take_apart()
    tree["weights/a"] = tree.pop(SITE)
    refused(put_together(tree, body), tmp_path, "no part of")


def changed_layers(change: Callable[[Tree], object]) -> bytes:
    """A file with low-rank changes of one layer, whose table of tensors was changed."""
    value = Foreword(adapters={"q": LowRank(torch.ones(2, 3), torch.ones(4, 2))}, weights={"w": torch.ones(2)})
    tree, body = take_apart(store.encode(value, MANIFEST))
    change(tree)
    return put_together(tree, body)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update({"lora_a/k": t.pop("lora_a/q")}), "different layers"),
        (lambda t: t["lora_b/q"].update(shape=[2, 4]), "same rank"),
        (lambda t: t["lora_a/q"].update(shape=[6]), "wrong rank"),
        (lambda t: t.update({"weights": t.pop("weights/w")}), "no part of"),
        (lambda t: t.update({"weights/../w": t.pop("weights/w")}), "name of a tensor"),
        (lambda t: t["weights/w"].update(shape=[1] * 8), "does not have the bytes"),
    ],
)
def test_changed_layers_that_do_not_fit_are_refused(
    change: Callable[[Tree], object], problem: str, tmp_path: Path
) -> None:
    store.decode(changed_layers(lambda _: None))
    refused(changed_layers(change), tmp_path, problem)


def test_keys_without_values_are_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    tree["values/decoder.self.1"] = tree.pop("values/decoder.self.0")
    refused(put_together(tree, body), tmp_path, "different sites")


def test_a_prompt_beside_keys_and_values_is_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    tree["prompt"] = {"dtype": "F32", "shape": [1, 1], "data_offsets": [32, 36]}
    refused(put_together(tree, body + b"\0" * 4), tmp_path, "not both")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    text = json.dumps(tree)
    double = text[:-1] + ', "' + SITE + '": ' + json.dumps(tree[SITE]) + "}"
    refused(put_together(double, body), tmp_path, "stands twice")


def test_many_names_and_one_twice_are_refused_quickly(tmp_path: Path) -> None:
    names = ",".join(f'"k{i}":0' for i in range(200_000))
    refused(put_together("{" + names + ',"k199999":0}', b""), tmp_path, "stands twice")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    keys = FOREWORD.sites["decoder.self.0"].keys.clone()
    keys[1, 0, 1] = value
    bad = Foreword(text="Go: ", sites={"decoder.self.0": KeyValue(keys, torch.ones(2, 1, 2))})
    refused(store.encode(bad, MANIFEST), tmp_path, "NaN or infinite", by_peek=False)


def test_other_tensors_under_the_same_manifest_are_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    refused(put_together(tree, body[:-4] + struct.pack("<f", 2.0)), tmp_path, "not the ones", by_peek=False)


@pytest.mark.parametrize("version", [0, 3, -1, 10**30, "1", 1.0, None, True, [1]])
def test_an_unknown_version_is_refused_before_anything_else(version: object, tmp_path: Path) -> None:
    data = changed_manifest(lambda m: (m.update(format_version=version), m.update(unheard_of=1), m.pop("base")))
    error = refused(data, tmp_path, "format version")
    if version == 3:
        assert "upgrade" in str(error.hint)


def test_a_missing_version_is_refused(tmp_path: Path) -> None:
    refused(changed_manifest(lambda m: m.pop("format_version")), tmp_path, "format version")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: m.update(unheard_of=1), "unheard_of"),
        (lambda m: m["base"].update(unheard_of=1), "base.unheard_of"),
        (lambda m: m.pop("base"), "base"),
        (lambda m: m.update(base=None), "base"),
        (lambda m: m["base"].update(kind="oracle"), "base.kind"),
        (lambda m: m["base"].update(id="\x1b[2Jgood"), "base.id"),
        (lambda m: m["base"].update(id="a\nb"), "base.id"),
        (lambda m: m["base"].update(id="ab\n"), "base.id"),
        (lambda m: m.update(method="pre\u202efix"), "method"),
        (lambda m: m.update(libraries={"torch\x9b": "1"}), "libraries"),
        (lambda m: m["base"].update(fingerprint={"config": 1}), "base.fingerprint"),
        (lambda m: m.update(method=1), "method"),
        (lambda m: m.update(positions="elsewhere"), "positions"),
        (lambda m: m.update(created="yesterday"), "created"),
        (lambda m: m.update(golden=m["golden"] * 17), "golden"),
        (lambda m: m["golden"][0].update(input_ids=["1"]), "golden.0.input_ids"),
        (lambda m: m["metrics"]["accuracy"].update(value="0.5"), "metrics.accuracy.value"),
        (lambda m: m.update(text=["a"]), "text"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(change: Callable[[Tree], object], place: str, tmp_path: Path) -> None:
    refused(changed_manifest(change), tmp_path, f"not valid at '{place}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"format_version": 1, "format_version": 1}',
        MANIFEST.to_json_text().replace('"accuracy":{"value":0.5', '"accuracy":{"value":NaN'),
        MANIFEST.to_json_text().replace('"accuracy":{"value":0.5', '"accuracy":{"value":1e999'),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":-Infinity}'),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":1,"a":2}'),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":' + "[" * 500 + "]" * 500 + "}"),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":"\\ud800"}'),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"\\udfff":1}'),
        MANIFEST.to_json_text().replace('"settings":{}', '"settings":{"a":1' + "0" * 5000 + "}"),
        MANIFEST.to_json_text() + "{}",
        "\ufeff" + MANIFEST.to_json_text(),
    ],
)
def test_a_manifest_with_no_clear_meaning_is_refused(text: str, tmp_path: Path) -> None:
    refused(with_manifest_text(text), tmp_path, "manifest|format version")


@pytest.mark.parametrize("key", ["digest", "manifest_digest"])
def test_missing_or_wrong_digests_are_refused(key: str, tmp_path: Path) -> None:
    tree, body = take_apart()
    value = tree["__metadata__"].pop(key)
    refused(put_together(tree, body), tmp_path, "not complete")
    tree["__metadata__"][key] = value[::-1]
    refused(put_together(tree, body), tmp_path, "that w.s saved|that were saved", by_peek=False)
    tree["__metadata__"][key] = "\x1b[2J"
    refused(put_together(tree, body), tmp_path, "malformed|that was saved")


def test_metadata_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    tree, body = take_apart()
    tree["__metadata__"]["more"] = "x"
    refused(put_together(tree, body), tmp_path, "not complete|unknown")
    tree["__metadata__"] = {"format": "pt"}
    refused(put_together(tree, body), tmp_path, "not a foreword")
    tree["__metadata__"] = ["foreword"]
    refused(put_together(tree, body), tmp_path, "object of texts")
    tree["__metadata__"] = {"foreword": {}}
    refused(put_together(tree, body), tmp_path, "object of texts")
    del tree["__metadata__"]
    refused(put_together(tree, body), tmp_path, "not a foreword")


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"{", b"{}}", b"{\xff}", b' {"a":1}', b"{" * 100_000, b'{"a":' * 100_000, b"", b'{"a":1}', b'{"a":NaN}'],
)
def test_a_header_that_is_not_an_object_is_refused(raw: bytes, tmp_path: Path) -> None:
    refused(put_together(raw, b""), tmp_path)


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_never_opened(protocol: int, tmp_path: Path) -> None:
    refused(pickle.dumps(Bomb(str(tmp_path / "boom")), protocol=protocol), tmp_path, "pickle" if protocol >= 2 else ".")
    assert not (tmp_path / "boom").exists()


def test_a_torch_checkpoint_and_a_model_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.bin")
    refused((tmp_path / "x.bin").read_bytes(), tmp_path, "torch checkpoint")
    refused(b"GGUF" + b"\0" * 100, tmp_path, "GGUF")


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(DATA)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "link": "symbolic link",
        "loop": "symbolic link",
        "pipe": "pipe",
        ".": "folder",
        "none": "cannot be opened",
    }
    for read in (store.load, store.peek):
        for name, problem in cases.items():
            with pytest.raises(FileFormatError, match=problem):
                read(tmp_path / name)
        with pytest.raises(FileFormatError, match="device"):
            read("/dev/null")
        with pytest.raises(FileFormatError, match="cannot be opened"):
            read("a\0b")
