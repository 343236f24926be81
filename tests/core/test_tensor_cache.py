"""A cache that cannot write says so and ends nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from foreword.core.passes.memory import out_of_memory
from foreword.core.passes.tensor_cache import TensorCache

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error", [FULL, SafetensorError("IoError: No space left on device"), PermissionError("denied")]
)
def test_a_full_disk_refuses_and_names_folder_and_bytes(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TensorCache(0, 2**20, tmp_path / "cache")
    assert store.put("first", torch.ones(3))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("foreword.core.passes.tensor_cache.save_file", fail)
    assert not store.put("second", torch.ones(5))
    assert "second" not in store
    assert str(tmp_path / "cache") in store.problem
    assert "20 bytes" in store.problem
    found = store.get("first")
    assert found is not None
    assert torch.equal(found, torch.ones(3))


def test_after_a_full_disk_nothing_more_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, tries = TensorCache(0, 2**20, tmp_path / "cache"), []

    def fail(*_: object) -> None:
        tries.append(1)
        raise FULL

    monkeypatch.setattr("foreword.core.passes.tensor_cache.save_file", fail)
    assert not store.put("a", torch.ones(1))
    assert not store.put("b", torch.ones(1))
    assert len(tries) == 1


def test_a_folder_that_cannot_be_made_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = TensorCache(0, 2**20, tmp_path / "file" / "cache")
    assert not store.put("a", torch.ones(1))
    assert "file" in store.problem


def test_a_library_without_room_for_its_workspace_is_out_of_memory() -> None:
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"))
