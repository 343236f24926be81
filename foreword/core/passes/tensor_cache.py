"""Tensors by key, in memory first, then in files, up to a limit; a file is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


class TensorCache:
    """What was computed once and is wanted again.

    Args:
        memory: bytes at most in memory.
        disk: bytes at most in files.
        folder: where the files are; what a run that was stopped left there is found again. None: no files.

    Attributes:
        problem: why no more files are written, empty while they are; a cache that cannot write ends nothing.
    """

    def __init__(self, memory: int, disk: int = 0, folder: Path | None = None) -> None:
        self.memory, self.disk, self.folder = memory, disk if folder else 0, folder
        self._kept: dict[str, Tensor] = {}
        self._used = 0
        self.problem = ""
        self._files = {} if folder is None else {p.stem: p.stat().st_size for p in folder.glob("*.safetensors")}

    def __contains__(self, key: str) -> bool:
        return key in self._kept or key in self._files

    def __len__(self) -> int:
        return len(self._kept.keys() | self._files.keys())

    def fits(self, size: int) -> bool:
        """Whether ``size`` bytes fit, in memory and files together."""
        return size <= self.memory + self.disk

    def get(self, key: str) -> Tensor | None:
        """The tensor, or None: it was not put, found no room, or its file is damaged."""
        if key in self._kept:
            return self._kept[key]
        if key not in self._files:
            return None
        try:
            return load_file(self._path(key))["value"]
        except (SafetensorError, OSError, KeyError):
            del self._files[key]
            return None

    def put(self, key: str, value: Tensor) -> bool:
        """Keep ``value`` under ``key``; False where there is no room, or the disk takes no more."""
        if key in self:
            return True
        size = value.numel() * value.element_size()
        if self._used + size <= self.memory:
            self._kept[key] = value
            self._used += size
            return True
        if self.problem or sum(self._files.values()) + size > self.disk:
            return False
        path = self._path(key)
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"value": value.cpu().contiguous()}, beside)
            beside.replace(path)
        except (OSError, SafetensorError) as error:
            self.problem = f"{size:,} bytes could not be written to {path.parent} ({error})"
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            return False
        self._files[key] = size
        return True

    def clear(self) -> None:
        """Forget everything; the files are deleted."""
        self._kept.clear()
        self._files.clear()
        self._used = 0
        if self.folder is not None and self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.safetensors"
