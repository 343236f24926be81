"""llama.cpp: a prefix as sequence-state files that an unmodified llama-server restores, and the client that checks it.

Measured in docs/log.md. GGUFs of the Llama architecture keep queries and keys in neighbouring pairs where transformers
has halves, so the keys are put in that order. Other architectures are refused until they are proven.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from foreword.errors import SettingsError
from foreword.export.base import ExportFormat, Exporting, task_files
from foreword.export.cache_layout import cache_of
from foreword.export.engines import llamacpp_client
from foreword.export.llamacpp_state import VERSIONS, Array, StateLayout, encode_state, interleaved
from foreword.settings.schema import Count

_SCRIPT = """#!/bin/sh
# Starts llama-server so that the state files here fit it; ask it with llamacpp_client.py, which checks every answer.
# A prompt cache in memory, or idle slots that are saved elsewhere, would answer without the prefix and say nothing.
cd "$(dirname "$0")" || exit 1
exec "${{LLAMA_SERVER:-llama-server}}" -m {model} -np {slots} {unified}-c "${{CONTEXT:-{context}}}" \\
  --cache-type-k {kind} --cache-type-v {kind} -fa {flash} --no-cache-idle-slots --cache-ram 0 \\
  --slot-save-path . --host 127.0.0.1 --port "${{PORT:-8080}}" "$@"
"""


@dataclass(frozen=True)
class LlamaCpp(ExportFormat):
    """State files of both versions, the launch script, the client, the task and an example request."""

    # The GGUF that is served; its path is written into the launch script.
    gguf: str | None = None
    # Slots of the server (-np); state files fit one number of them, unless the cache is unified.
    slots: Count = 4
    # One cache for all slots (--kv-unified); the state then fits any number of them.
    unified: bool = False
    # Numbers in the cache (--cache-type-k and -v).
    cache_type: Literal["f16", "f32"] = "f16"
    # Whether flash attention is on (-fa); without it values lie the other way round.
    flash_attention: bool = True
    # Token id that stands P times in front of every request.
    placeholder: int = 0

    name: ClassVar[str] = "llamacpp"
    title: ClassVar[str] = "llama.cpp"
    holds: ClassVar[tuple[str, ...]] = ("prefix",)
    architectures: ClassVar[tuple[str, ...]] = ("llama",)
    needs: ClassVar[str] = "llama-server, or llama-cpp-python; the base as GGUF"
    proven: ClassVar[str] = "greedy tokens equal on llama-cpp-python 0.3.36 with f32 weights and cache"
    limits: ClassVar[str] = "one state file for each number of slots, kind of cache and flash attention setting"

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        self.check(exporting)
        if self.gguf is None:
            raise SettingsError(
                "the GGUF that is served is missing", where="--to llamacpp", hint="name it: --set gguf=MODEL.gguf"
            )
        if not Path(self.gguf).is_file():
            raise SettingsError("there is no such file", where="--set gguf", received=self.gguf)
        cache = self.engine_order(exporting)
        placeholders = [self.placeholder] * cache.shape[2]
        streams = 1 if self.unified else self.slots
        files = {
            f"{exporting.name}.v{version}.bin": encode_state(
                cache, placeholders, StateLayout(version, streams, self.cache_type, not self.flash_attention)
            )
            for version in VERSIONS
        }
        files["llamacpp_client.py"] = Path(llamacpp_client.__file__).read_bytes()
        files |= task_files(exporting.manifest, exporting.value.text, placeholders)
        files["serve.sh"] = self._script(exporting).encode()
        return files

    def engine_order(self, exporting: Exporting) -> Array:
        """The cache ``[L, 2, P, H * D]`` as the engine has it."""
        cache = cache_of(exporting, self.name).permute(0, 1, 3, 2, 4).numpy()
        size = cache.shape[-1]
        ordered = cache.copy()
        ordered[:, 0] = interleaved(cache[:, 0], size)
        flat: Array = ordered.reshape(*cache.shape[:3], -1)
        return flat

    def _script(self, exporting: Exporting) -> str:
        context = exporting.base.context or 4096
        return _SCRIPT.format(
            model=shlex.quote(str(Path(self.gguf or "").resolve())), slots=self.slots,
            unified="--kv-unified " if self.unified else "", context=context * self.slots,
            kind=self.cache_type, flash="on" if self.flash_attention else "off",
        )  # fmt: skip
