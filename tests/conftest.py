"""What every test stands on: no network, one thread a process, real models fetched once into the cache."""

from __future__ import annotations

import os

# Before torch or transformers is imported anywhere, and inherited by the commands that tests start.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    FOREWORD_LANG="en",
)

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from foreword import samples

if TYPE_CHECKING:
    from foreword.core.base.load import Base


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct as a folder of safetensors."""
    return samples.smollm2()


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as a folder of safetensors."""
    return samples.minilm()


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> Base:
    """SmolLM2-135M-Instruct, loaded and frozen; tests share it and leave it as it is."""
    from foreword.core.base.load import load_base

    return load_base(smollm2_folder, device="cpu")


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> Base:
    """all-MiniLM-L6-v2, loaded and frozen; tests share it and leave it as it is."""
    from foreword.core.base.load import load_base

    return load_base(minilm_folder, device="cpu")


@pytest.fixture(scope="session")
def reuters() -> tuple[Path, Path]:
    """Reuters R8: the training and the test file."""
    return samples.reuters_r8()
