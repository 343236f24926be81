"""llama.cpp: a prefix as sequence-state files that an unmodified llama-server restores, with the client that checks it;
LoRA as a GGUF adapter; a soft prompt as embeddings for llama-cpp-python.

Measured in docs/log.md. GGUFs of the Llama architecture keep queries and keys in neighbouring pairs where transformers
has halves, so keys are put in that order there. Architectures that were not run are refused.
"""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from foreword.errors import FileFormatError, SettingsError
from foreword.export.base import ExportFormat, Exporting, part_of, task_files
from foreword.export.cache_layout import cache_of
from foreword.export.engines import llamacpp_client
from foreword.export.llamacpp_lora import ARCHITECTURES, encode_lora, paired
from foreword.export.llamacpp_state import VERSIONS, Array, StateLayout, encode_state, interleaved
from foreword.settings.schema import Count

_SCRIPT = """#!/bin/sh
# {about}
cd "$(dirname "$0")" || exit 1
exec "${{LLAMA_SERVER:-llama-server}}" -m {model} -np {slots} {unified}-c "${{CONTEXT:-{context}}}" \\
  --cache-type-k {kind} --cache-type-v {kind} -fa {flash} {special} --host 127.0.0.1 --port "${{PORT:-8080}}" "$@"
"""
_PREFIX = """Starts llama-server so that the state files here fit it; llamacpp_client.py asks it and checks each answer.
# A prompt cache in memory, or idle slots that are saved elsewhere, would answer without the prefix and say nothing."""
_LORA = "Starts llama-server with the adapter in this folder in force for every request."


@dataclass(frozen=True)
class LlamaCpp(ExportFormat):
    """State files of both versions, an adapter or embeddings; the launch script, the task and an example request."""

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
    holds: ClassVar[tuple[str, ...]] = ("prefix", "prompt", "lora")
    architectures: ClassVar[tuple[str, ...]] = tuple(ARCHITECTURES)
    needs: ClassVar[str] = "llama-server or llama-cpp-python (a soft prompt: the latter); the base as GGUF"
    proven: ClassVar[str] = (
        "greedy tokens equal on llama-cpp-python 0.3.36 and on llama.cpp's server of build 11549, SmolLM2, f32; "
        "logits of tiny models of each architecture"
    )
    limits: ClassVar[str] = "one state file for each number of slots, kind of cache and flash attention setting"
    runner: ClassVar[str] = "run_llamacpp.py"
    module: ClassVar[str] = "llama_cpp"
    package: ClassVar[str] = "llama-cpp-python==0.3.36"

    def write(self, exporting: Exporting) -> dict[str, bytes]:
        part = self.check(exporting)
        if self.gguf is None:
            raise SettingsError(
                "the GGUF that is served is missing", where="--to llamacpp", hint="name it: --set gguf=MODEL.gguf"
            )
        if not Path(self.gguf).is_file():
            raise SettingsError("there is no such file", where="--set gguf", received=self.gguf)
        return {"prefix": self._prefix, "lora": self._lora, "prompt": self._prompt}[part](exporting)

    def job(self, exporting: Exporting) -> dict[str, Any]:
        part = part_of(exporting.value)
        ending = {"prefix": "v3.bin", "lora": "lora.gguf", "prompt": "prompt.npy"}[part]
        file = exporting.folder.resolve() / f"{exporting.name}.{ending}"
        if part == "prefix":  # llama-cpp-python has one slot
            file = exporting.scratch / "one-slot.bin"
            file.write_bytes(self._state(exporting, VERSIONS[0], 1))
        return {
            "gguf": str(Path(self.gguf or "").resolve()), "part": part, "length": exporting.value.num_virtual_tokens,
            "file": str(file), "cache_type": self.cache_type, "flash_attention": self.flash_attention,
        }  # fmt: skip

    def _state(self, exporting: Exporting, version: int, streams: int) -> bytes:
        cache = self.engine_order(exporting)
        layout = StateLayout(version, streams, self.cache_type, not self.flash_attention)
        return encode_state(cache, [self.placeholder] * cache.shape[2], layout)

    def _prefix(self, exporting: Exporting) -> dict[str, bytes]:
        placeholders = [self.placeholder] * exporting.value.num_virtual_tokens
        streams = 1 if self.unified else self.slots
        files = {f"{exporting.name}.v{version}.bin": self._state(exporting, version, streams) for version in VERSIONS}
        files["llamacpp_client.py"] = Path(llamacpp_client.__file__).read_bytes()
        files |= task_files(exporting.manifest, exporting.value.text, placeholders)
        special = "--no-cache-idle-slots --cache-ram 0 --slot-save-path ."
        files["serve.sh"] = self._script(exporting, _PREFIX, special).encode()
        return files

    def _lora(self, exporting: Exporting) -> dict[str, bytes]:
        name = f"{exporting.name}.lora.gguf"
        files = {name: encode_lora(exporting.value.adapters, exporting.base.model.config)}
        files |= task_files(exporting.manifest, exporting.value.text, [])
        files["serve.sh"] = self._script(exporting, _LORA, f"--lora {shlex.quote(name)}").encode()
        return files

    def _prompt(self, exporting: Exporting) -> dict[str, bytes]:
        prompt = exporting.value.prompt
        assert prompt is not None
        if exporting.base.model.config.model_type == "gemma":
            raise SettingsError(
                "Gemma multiplies embeddings, llama.cpp only those of tokens", where="--to llamacpp",
                expected="a prefix or LoRA", received="a soft prompt",
            )  # fmt: skip
        runner = Path(llamacpp_client.__file__).with_name("run_llamacpp.py")
        files = {f"{exporting.name}.prompt.npy": encode_prompt(prompt), runner.name: runner.read_bytes()}
        return files | task_files(exporting.manifest, exporting.value.text, [])

    def engine_order(self, exporting: Exporting) -> Array:
        """The cache ``[L, 2, P, H * D]`` as the engine has it."""
        cache = cache_of(exporting, self.name).permute(0, 1, 3, 2, 4).numpy()
        ordered = cache.copy()
        if paired(exporting.base.model.config):
            ordered[:, 0] = interleaved(cache[:, 0], cache.shape[-1])
        flat: Array = ordered.reshape(*cache.shape[:3], -1)
        return flat

    def _script(self, exporting: Exporting, about: str, special: str) -> str:
        context = exporting.base.context or 4096
        return _SCRIPT.format(
            about=about, model=shlex.quote(str(Path(self.gguf or "").resolve())), slots=self.slots,
            unified="--kv-unified " if self.unified else "", context=context * self.slots,
            kind=self.cache_type, flash="on" if self.flash_attention else "off", special=special,
        )  # fmt: skip


def encode_prompt(prompt: torch.Tensor) -> bytes:
    """A soft prompt ``[P, E]`` as numpy's array file in float32."""
    buffer = io.BytesIO()
    np.save(buffer, prompt.detach().float().cpu().numpy(), allow_pickle=False)
    return buffer.getvalue()


def decode_prompt(content: bytes, where: str) -> torch.Tensor:
    """The inverse of :func:`encode_prompt`.

    Raises:
        FileFormatError: no such file, another shape, or numbers that are not finite.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise FileFormatError(f"this is no array file: {problem}", where=where) from problem
    if array.ndim != 2 or array.dtype != np.float32 or not np.isfinite(array).all():
        expected, received = "finite float32 [P, E]", f"{array.dtype} {list(array.shape)}"
        raise FileFormatError("this is no soft prompt", where=where, expected=expected, received=received)
    return torch.from_numpy(array.copy())
