"""Formats of other engines: byte by byte, out and in again with the same logits, and what they refuse."""

from __future__ import annotations

import json
import struct
import sys
import threading
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foreword import api, plugins
from foreword.artifact.store import load, save
from foreword.cli.main import main
from foreword.core.inject.value import Foreword, equal
from foreword.errors import FileFormatError, SettingsError
from foreword.export import base as formats
from foreword.export.convert import formats as formats_of_convert
from foreword.export.engines.llamacpp_client import LlamaServer, PrefixNotUsed
from foreword.export.llamacpp_state import StateLayout, decode_state, encode_state, halves, interleaved
from foreword.settings.schema import TaskOptions, TrainRequest, TrainSettings
from tests.runs.conftest import labelled_rows, save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Callable[[str, str], Path]:
    """A short run of a method on a tiny base of a family."""

    def file(family: str, method: str) -> Path:
        place = folder / family / method
        if not place.exists():
            base = folder / family / "base"
            if not base.exists():
                save_tiny(base, family)
            settings = TrainSettings(learning_rate=2e-2, max_steps=6, per_device_train_batch_size=8)
            task = TaskOptions(guidance="Say yes or no.\n", template="{{ text }}:")
            data = labelled_rows(60)
            request = TrainRequest(data, str(base), place, method=method, settings=settings, task_options=task)
            with pytest.MonkeyPatch.context() as patch:
                # What is exported does not have to be better than the prompt.
                patch.setattr("foreword.training.events.Score.above", lambda self, other: True)
                api.train(request)
        return place / "model.foreword"

    return file


def test_a_state_is_written_byte_by_byte() -> None:
    cache = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    content = encode_state(cache, [7, 7], StateLayout(4, 2, "f32"))
    keys, values = cache[0]
    expected = struct.pack("<3I2i", 0x67677371, 4, 2, 7, 7) + struct.pack("<II", 2, 2)
    expected += struct.pack("<iIi", 0, 1, 0) + struct.pack("<iIi", 1, 1, 0) + struct.pack("<4I", 0, 1, 0, 0)
    expected += struct.pack("<iQ", 0, 8) + keys.tobytes() + struct.pack("<iQ", 0, 8) + values.tobytes()
    assert content == expected + struct.pack("<I", 0)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("cache_type", ["f32", "f16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_state_is_read_back(version: int, streams: int, cache_type: Any, transposed: bool) -> None:
    cache = np.random.default_rng(1).normal(size=(3, 2, 5, 8)).astype(np.float16).astype(np.float32)
    layout = StateLayout(version, streams, cache_type, transposed)
    again, tokens = decode_state(encode_state(cache, [0] * 5, layout))
    assert np.array_equal(again, cache)
    assert tokens == [0] * 5


def test_no_cut_or_changed_state_is_read() -> None:
    content = encode_state(np.ones((2, 2, 3, 4)), [0, 0, 0], StateLayout())
    for length in range(len(content) - 1):
        with pytest.raises(FileFormatError):
            decode_state(content[:length])
    for changed, problem in (
        (b"\0" + content[1:], "no sequence state"),
        (content[:4] + b"\5" + content[5:], "version"),
    ):
        with pytest.raises(FileFormatError, match=problem):
            decode_state(changed)


def test_pairs_and_halves_are_each_others_inverse() -> None:
    keys = np.arange(2 * 3 * 8).reshape(2, 3, 8)
    assert interleaved(keys, 8)[0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    for rotary in (8, 4):
        assert np.array_equal(halves(interleaved(keys, rotary), rotary), keys)


@pytest.mark.parametrize(
    ("format", "settings", "source"),
    [
        ("peft", [], "."),
        ("mlx", [], "model.safetensors"),
        ("llamacpp", ["cache_type=f32"], "model.v3.bin"),
        ("llamacpp", ["cache_type=f32", "flash_attention=false", "unified=true"], "model.v4.bin"),
    ],
)
def test_out_and_in_again_gives_the_same_logits(
    format: str, settings: list[str], source: str, folder: Path, trained: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file, base = trained("llama", "prefix"), str(folder / "llama" / "base")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    flags = [f"--set={pair}" for pair in [*settings, *([f"gguf={tmp_path}/m.gguf"] if format == "llamacpp" else [])]]
    assert main(["export", str(file), "--to", format, "--output-dir", str(tmp_path / "out"), *flags]) == 0
    back = tmp_path / "back.foreword"
    assert main(["import", str(tmp_path / "out" / source), "--output", str(back), "--base", base]) == 0
    value, manifest = load(file)
    assert equal(load(back)[0], value)
    assert load(back)[1] == manifest
    assert api.verify(back).ok


def test_every_format_has_its_row_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--to", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["format"] for row in rows] == list(formats.registry())
    assert all(row["holds"] and row["needs"] for row in rows)


def test_the_page_shows_the_formats_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
    for row in formats_of_convert():
        assert "| " + " | ".join(row.values()) + " |" in page


@pytest.mark.parametrize(
    ("family", "method", "format", "flags", "problem"),
    [
        ("llama", "prefix", "llamacpp", [], "the GGUF that is served is missing"),
        ("llama", "prefix", "llamacpp", ["--set", "gguf=nowhere.gguf"], "there is no such file"),
        ("llama", "prefix", "llamacpp", ["--set", "slot=4"], "has no setting 'slot'"),
        ("llama", "prefix", "llamacpp", ["--set", "slots=many"], "slots cannot be that"),
        ("llama", "prefix", "onnx", [], "there is no such format"),
        ("llama", "lora", "mlx", [], "MLX-LM cannot hold this foreword"),
        ("gpt2", "prefix", "llamacpp", ["--set", "gguf=x"], "not proven on llama.cpp"),
        ("t5", "prefix", "vllm", [], "only a decoder's prefix stands in a cache"),
        ("mistral", "prefix", "vllm", [], "sliding windows are not proven"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(
    family: str, method: str, format: str, flags: list[str], problem: str, trained: Callable[[str, str], Path],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = trained(family, method)
    assert main(["export", str(file), "--to", format, "--output-dir", str(tmp_path / "out"), *flags]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cache_in_transformers_gives_the_same_answer(trained: Callable[[str, str], Path], folder: Path) -> None:
    from transformers import DynamicCache

    value, _ = load(trained("llama", "prefix"))
    base = api.load_base(folder / "llama" / "base")
    with api.injected(base.model, [value]), torch.no_grad():
        ours = base.model(torch.tensor([[5, 6, 7]])).logits
    cache = DynamicCache()
    for layer, kv in enumerate(value.sites.values()):
        cache.update(kv.keys.transpose(0, 1)[None], kv.values.transpose(0, 1)[None], layer)
    with torch.no_grad():
        theirs = base.model(torch.tensor([[5, 6, 7]]), past_key_values=cache).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_vllm_gets_prefix_connector_script_and_salt(trained: Callable[[str, str], Path], tmp_path: Path) -> None:
    told = api.export(trained("llama", "prefix"), tmp_path, format="vllm", settings={"block_size": "32"})
    assert {"model.safetensors", "foreword_connector.py", "serve.sh", "vllm_request.json"} <= set(told["files"])
    request = json.loads((tmp_path / "vllm_request.json").read_text())
    assert request["cache_salt"].startswith("foreword:")
    assert request["kv_transfer_params"] == {"foreword": "model"}
    script = (tmp_path / "serve.sh").read_text()
    assert "--block-size 32" in script
    assert "--host 127.0.0.1" in script


class _Metadata:
    pass


class _Connector:
    def __init__(self, vllm_config: Any, **kwargs: Any) -> None:
        self._kv_transfer_config = types.SimpleNamespace(
            get_from_extra_config=lambda name, default: vllm_config.extra.get(name, default)
        )


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The connector's module, with stand-ins for the parts of vLLM that it is built on."""
    base = types.ModuleType("vllm.distributed.kv_transfer.kv_connector.v1.base")
    base.KVConnectorBase_V1, base.KVConnectorMetadata = _Connector, _Metadata  # type: ignore[attr-defined]
    distributed = types.ModuleType("vllm.distributed")
    distributed.get_tensor_model_parallel_rank = lambda: 1  # type: ignore[attr-defined]
    distributed.get_tensor_model_parallel_world_size = lambda: 2  # type: ignore[attr-defined]
    names = ["vllm", "vllm.distributed.kv_transfer", "vllm.distributed.kv_transfer.kv_connector"]
    for name in [*names, "vllm.distributed.kv_transfer.kv_connector.v1"]:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.distributed", distributed)
    monkeypatch.setitem(sys.modules, "vllm.distributed.kv_transfer.kv_connector.v1.base", base)
    monkeypatch.delitem(sys.modules, "foreword.export.engines.vllm_connector", raising=False)
    from foreword.export.engines import vllm_connector

    yield vllm_connector
    sys.modules.pop("foreword.export.engines.vllm_connector", None)


def test_the_connector_loads_its_ranks_heads_into_the_requests_blocks(connector: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    prefix = torch.randn(2, 2, 4, 6, 8)
    save_file({"kv": prefix}, tmp_path / "mine.safetensors")
    config = types.SimpleNamespace(
        cache_config=types.SimpleNamespace(block_size=4), extra={"prefix_dir": str(tmp_path)}
    )
    ours = connector.ForewordConnector(config, role=None)
    request = types.SimpleNamespace(request_id="r", kv_transfer_params={"foreword": "mine"}, num_prompt_tokens=9)
    assert ours.get_num_new_matched_tokens(request, 4) == (2, False)
    assert ours.get_num_new_matched_tokens(types.SimpleNamespace(kv_transfer_params=None), 0) == (0, False)
    with pytest.raises(ValueError, match="placeholders and at least one token more"):
        ours.get_num_new_matched_tokens(types.SimpleNamespace(**{**vars(request), "num_prompt_tokens": 6}), 0)
    for name in ("../mine", "other", ""):
        with pytest.raises(ValueError, match="no foreword"):
            ours.prefixes.path(name)
    ours.update_state_after_alloc(request, None, 2)
    step = types.SimpleNamespace(
        scheduled_new_reqs=[types.SimpleNamespace(req_id="r", block_ids=[[7, 3]])],
        scheduled_cached_reqs=types.SimpleNamespace(req_ids=[], resumed_req_ids=set()),
    )
    meta = ours.build_connector_meta(step)
    assert [(load.start, load.slots.tolist()) for load in meta.loads] == [(4, [12, 13])]
    written: list[tuple[torch.Tensor, torch.Tensor, list[int]]] = []
    impl = types.SimpleNamespace(
        do_kv_cache_update=lambda layer, k, v, cache, slots: written.append((k, v, slots.tolist()))
    )
    layer = types.SimpleNamespace(kv_cache=torch.zeros(1), num_kv_heads=2, impl=impl)
    ours._get_connector_metadata = lambda: meta
    ours.start_load_kv(types.SimpleNamespace(no_compile_layers={"model.layers.1.attn": layer}))
    ((keys, values, slots),) = written
    assert torch.equal(keys, prefix[1, 0, 2:, 4:].transpose(0, 1))
    assert torch.equal(values, prefix[1, 1, 2:, 4:].transpose(0, 1))
    assert slots == [12, 13]


class _Server(BaseHTTPRequestHandler):
    used, restored = 3, 3
    asked: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))  # type: ignore[attr-defined]
        if body.get("filename") == "other.bin":
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b"version mismatch")
            return
        answer = {"n_restored": self.server.restored}  # type: ignore[attr-defined]
        if self.path == "/completion":
            answer = {"content": "yes", "timings": {"cache_n": self.server.used}}  # type: ignore[attr-defined,dict-item]
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    """A stand-in for llama-server on the loopback interface."""
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        server.used, server.restored, server.asked = 3, 3, []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_client_restores_asks_and_checks(server: Any) -> None:
    client = LlamaServer(f"http://127.0.0.1:{server.server_port}")
    assert client.ask("a.bin", [0, 0, 0], [5, 6], n_predict=1)["content"] == "yes"
    (path, _), (_, body) = server.asked
    assert path == "/slots/0?action=restore"
    assert (body["prompt"], body["id_slot"], body["cache_prompt"]) == ([0, 0, 0, 5, 6], 0, True)


def test_the_client_gives_out_no_answer_that_the_prefix_had_no_part_in(server: Any) -> None:
    client = LlamaServer(f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(PrefixNotUsed, match="as text"):
        client.ask("a.bin", [0, 0, 0], [5], cache_prompt=False)
    with pytest.raises(PrefixNotUsed, match="400: version mismatch"):
        client.ask("other.bin", [0, 0, 0], [5])
    server.used = 0
    with pytest.raises(PrefixNotUsed, match="used 0 of the 3"):
        client.ask("a.bin", [0, 0, 0], [5])
    server.restored = 2
    with pytest.raises(PrefixNotUsed, match="restored 2 of 3"):
        client.ask("a.bin", [0, 0, 0], [5])


def test_another_packages_format_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("elsewhere")
    exec(
        "from dataclasses import dataclass\nfrom foreword.export.base import ExportFormat\n"
        "@dataclass(frozen=True)\nclass Mine(ExportFormat):\n    name, title, holds = 'mine', 'Mine', ('prefix',)\n"
        "    def write(self, exporting):\n        return {}\n",
        module.__dict__,
    )
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    point = EntryPoint("mine", "elsewhere:Mine", "foreword.export")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "foreword.export" else [])
    formats.registry.cache_clear()
    assert formats.make_format("mine").name == "mine"
    formats.registry.cache_clear()


def test_layers_of_different_shapes_stay_out_of_a_cache(trained: Callable[[str, str], Path], tmp_path: Path) -> None:
    value, manifest = load(trained("llama", "prefix"))
    sites = dict(value.sites)
    name = next(iter(sites))
    del sites[name]
    save(tmp_path / "less.foreword", Foreword(value.text, sites=sites), manifest)
    with pytest.raises(SettingsError, match="for every layer"):
        api.export(tmp_path / "less.foreword", tmp_path / "out", format="mlx")
