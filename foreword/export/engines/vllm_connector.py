"""vLLM's way in for a learned prefix: a key-value connector that lives outside of vLLM.

A request has P placeholder ids in front of its own, ``kv_transfer_params={"foreword": NAME}`` and ``cache_salt``. The
scheduler's side says that the first P tokens are computed already; the worker's side writes the prefix's keys and
values into the request's blocks with the attention backend's own writer, which knows the cache's layout, and takes
this rank's heads where the model is spread over several. This file needs vLLM, torch and safetensors alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata

_NAME = re.compile(r"[\w-][\w.-]*")
_LAYER = re.compile(r"layers\.(\d+)\.")


@dataclass
class Load:
    """One request's prefix: its tokens from ``start`` on go to ``slots`` of the cache."""

    name: str
    start: int
    slots: torch.Tensor


@dataclass
class Loads(KVConnectorMetadata):  # type: ignore[misc]
    """What the scheduler's side tells the worker's side of one step."""

    loads: list[Load] = field(default_factory=list)


class Prefixes:
    """The files ``NAME.safetensors`` of a folder, each with ``kv`` ``[L, 2, H, P, D]``, read when asked for."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._tensors: dict[str, torch.Tensor] = {}
        self._lengths: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """The file of a name; a name from a request is never a path."""
        path = self.folder / f"{name}.safetensors"
        if not _NAME.fullmatch(name) or not path.is_file():
            raise ValueError(f"there is no foreword {name!r} in {self.folder}")
        return path

    def length(self, name: str) -> int:
        """P."""
        if name not in self._lengths:
            with safetensors.safe_open(self.path(name), "pt") as file:
                self._lengths[name] = file.get_slice("kv").get_shape()[3]
        return self._lengths[name]

    def tensor(self, name: str) -> torch.Tensor:
        """``[L, 2, H, P, D]``."""
        if name not in self._tensors:
            self._tensors[name] = safetensors.torch.load_file(self.path(name))["kv"]
        return self._tensors[name]


def slots_of(blocks: list[int], positions: torch.Tensor, block_size: int) -> torch.Tensor:
    """Where in the cache a request's ``positions`` are."""
    return torch.tensor(blocks)[positions // block_size] * block_size + positions % block_size


class ForewordConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """Named by ``--kv-transfer-config``; ``kv_connector_extra_config.prefix_dir`` is the folder of the prefixes."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self.block_size: int = vllm_config.cache_config.block_size
        self.prefixes = Prefixes(self._kv_transfer_config.get_from_extra_config("prefix_dir", "."))
        self.waiting: dict[str, tuple[str, int]] = {}

    # The scheduler's side.

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """How many tokens in front come from here."""
        name = (request.kv_transfer_params or {}).get("foreword")
        if not name:
            return 0, False
        length = self.prefixes.length(name)
        if request.num_prompt_tokens <= length:
            raise ValueError(f"a request with foreword {name!r} has {length} placeholders and at least one token more")
        return max(0, length - num_computed_tokens), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Remember whose blocks are to be filled."""
        if num_external_tokens > 0:
            self.waiting[request.request_id] = (request.kv_transfer_params["foreword"], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> Loads:
        """What the workers load in this step."""
        meta = Loads()
        for request in scheduler_output.scheduled_new_reqs:
            self._add(meta, request.req_id, request.block_ids[0])
        cached = scheduler_output.scheduled_cached_reqs
        for index, request_id in enumerate(cached.req_ids):
            if request_id in cached.resumed_req_ids:
                self._add(meta, request_id, cached.new_block_ids[index][0])
        self.waiting.clear()
        return meta

    def _add(self, meta: Loads, request_id: str, blocks: list[int]) -> None:
        if request_id in self.waiting:
            name, count = self.waiting.pop(request_id)
            length = self.prefixes.length(name)
            positions = torch.arange(length - count, length)
            meta.loads.append(Load(name, length - count, slots_of(blocks, positions, self.block_size)))

    # The worker's side.

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Write every waiting prefix into the cache of every layer."""
        loads = self._get_connector_metadata().loads
        if not loads:
            return
        rank, ranks = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
        for name, layer in forward_context.no_compile_layers.items():
            cache = getattr(layer, "kv_cache", None)
            if cache is None:
                continue
            cache = cache[0] if isinstance(cache, list | tuple) else cache
            match = _LAYER.search(name)
            if match is None:
                raise ValueError(f"which layer is {name!r}?")
            for load in loads:
                self._write(load, layer, cache, int(match.group(1)), rank / ranks)

    def _write(self, load: Load, layer: Any, cache: torch.Tensor, number: int, share: float) -> None:
        keys, values = self.prefixes.tensor(load.name)[number, :, :, load.start :]
        # This rank's heads; also right where heads are repeated because there are more ranks than heads.
        first = int(share * keys.shape[0])
        dtype = cache.dtype if cache.dtype.is_floating_point else torch.float32
        pair = [
            part[first : first + layer.num_kv_heads].transpose(0, 1).contiguous().to(cache.device, dtype)
            for part in (keys, values)
        ]
        layer.impl.do_kv_cache_update(layer, *pair, cache, load.slots.to(cache.device))

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing is loaded in the background."""

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing is saved."""

    def wait_for_save(self) -> None:
        """Nothing is saved."""
