"""A tiny base, values of every kind for it, and files of them with golden rows and without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foreword import api
from foreword.artifact.manifest import BaseRecord, Golden, Manifest
from foreword.artifact.store import save
from foreword.core.inject.lora_deltas import linear_layers, sizes
from foreword.core.inject.sites import find_sites
from foreword.core.inject.value import Foreword, KeyValue, LowRank
from foreword.data.task.task import Task
from foreword.runs.prepare.prepare import plain_settings
from tests.runs.conftest import save_tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return api.load_base(save_tiny(tmp_path_factory.mktemp("weights") / "llama", "llama"))


def lora(base: Any) -> Foreword:
    """Ranks 2 and 3 by turns on every layer."""
    rng = torch.Generator().manual_seed(1)
    pairs = {}
    for index, (name, layer) in enumerate(linear_layers(base.model).items()):
        (inner, outer), rank = sizes(layer), 2 + index % 2
        pairs[name] = LowRank(
            0.3 * torch.randn(rank, inner, generator=rng), 0.3 * torch.randn(outer, rank, generator=rng)
        )
    return Foreword("Say yes.\n", adapters=pairs)


def prompt(base: Any) -> Foreword:
    return Foreword(prompt=torch.randn(4, base.hidden_size, generator=torch.Generator().manual_seed(1)))


def full(base: Any) -> Foreword:
    rng = torch.Generator().manual_seed(1)
    names = ["model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
    parameters = dict(base.model.named_parameters())
    return Foreword(
        weights={name: parameters[name] + 0.1 * torch.randn(parameters[name].shape, generator=rng) for name in names}
    )


@pytest.fixture
def file_of(base: Any, tmp_path: Path) -> Callable[[Foreword], Path]:
    """A file of a value, with golden rows and without training."""

    def write(value: Foreword) -> Path:
        record = BaseRecord(id=base.id, architecture=base.architecture, kind=base.kind, fingerprint=base.fingerprint)
        task = plain_settings(Task("generation", "{{ text }}", value.text, "target", {}).to_json())
        golden = [Golden(input={"text": "a"}, input_ids=[5, 6, 7], output="b")] * 2
        manifest = Manifest(base=record, method="lora", task=task, text=value.text, golden=golden)
        save(tmp_path / "mine.foreword", value, manifest)
        return tmp_path / "mine.foreword"

    return write


def prefix(base: Any) -> Foreword:
    """Three virtual tokens on every layer."""
    rng = torch.Generator().manual_seed(1)
    sites = find_sites(base.model).sites.items()
    return Foreword(
        sites={
            name: KeyValue(
                *(torch.randn(3, site.heads, size, generator=rng) for size in (site.key_size, site.value_size))
            )
            for name, site in sites
        }
    )
