"""In which number format a base runs where that is left open."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig, LlamaConfig

from foreword.core.base import precision
from foreword.core.base.architecture import Kind
from foreword.core.base.precision import Layer, best_precision, layer_seconds, readable

CPU = torch.device("cpu")
WIDE = LlamaConfig(hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2)


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "has_fast_products", lambda: True)
    monkeypatch.setattr(precision, "is_busy", lambda: False)


def measured(monkeypatch: pytest.MonkeyPatch, times: float) -> list[Layer]:
    """bfloat16 is ``times`` as fast; the list has the layers that were measured."""
    asked: list[Layer] = []

    def seconds(layer: Layer) -> dict[str, float]:
        asked.append(layer)
        return {"float32": times, "bfloat16": 1.0}

    monkeypatch.setattr(precision, "layer_seconds", seconds)
    return asked


@pytest.mark.parametrize(
    ("times", "dtype"), [(2.0, "bfloat16"), (1.1, "bfloat16"), (1.05, "float32"), (0.5, "float32")]
)
def test_bfloat16_has_to_be_clearly_faster(monkeypatch: pytest.MonkeyPatch, times: float, dtype: str) -> None:
    measured(monkeypatch, times)
    chosen = best_precision(WIDE, "decoder", CPU)
    assert str(chosen.dtype) == f"torch.{dtype}"
    assert f"{times:.1f} times" in chosen.why


def test_a_machine_measures_once_and_keeps_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = measured(monkeypatch, 2.0)
    first = best_precision(WIDE, "decoder", CPU)
    measured(monkeypatch, 0.5)
    assert best_precision(WIDE, "decoder", CPU) == first
    assert len(asked) == 1


def test_what_was_measured_on_a_busy_machine_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "is_busy", lambda: True)
    measured(monkeypatch, 1.0)
    assert best_precision(WIDE, "decoder", CPU).dtype == torch.float32
    monkeypatch.setattr(precision, "is_busy", lambda: False)
    measured(monkeypatch, 2.0)
    assert best_precision(WIDE, "decoder", CPU).dtype == torch.bfloat16


def test_a_damaged_cache_is_measured_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, 2.0)
    best_precision(WIDE, "decoder", CPU)
    (file,) = tmp_path.rglob("seconds.json")
    file.write_text("{")
    assert best_precision(WIDE, "decoder", CPU).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "kind", "fast"),
    [
        (LlamaConfig(hidden_size=64, num_attention_heads=4), "decoder", True),
        (BertConfig(hidden_size=256), "encoder", True),
        (WIDE, "decoder", False),
        (SimpleNamespace(get_text_config=lambda: SimpleNamespace()), "decoder", True),
    ],
    ids=["small", "encoder", "no products", "another kind of config"],
)
def test_float32_without_a_measurement(monkeypatch: pytest.MonkeyPatch, config: Any, kind: Kind, fast: bool) -> None:
    asked = measured(monkeypatch, 9.0)
    monkeypatch.setattr(precision, "has_fast_products", lambda: fast)
    assert best_precision(config, kind, CPU).dtype == torch.float32
    assert not asked


def test_a_layer_is_timed_in_both_formats_and_leaves_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        seconds = layer_seconds(Layer(16, 32, 4, 2, 4), rounds=1)
    assert set(seconds) == {"float32", "bfloat16"}
    assert min(seconds.values()) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_large_layer_is_scaled_down_with_its_groups() -> None:
    config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_attention_heads=64, num_key_value_heads=8)
    layer = Layer.of(config)
    assert layer.weights < 2 * precision._MOST
    assert layer.heads == 8 * layer.groups


@pytest.mark.parametrize(
    ("recorded", "fast", "used"),
    [
        ("bfloat16", True, "bfloat16"),
        ("bfloat16", False, "float32"),
        ("float32", True, "float32"),
        (None, True, "float32"),
    ],
)
def test_a_file_is_used_in_the_precision_of_its_answers(
    monkeypatch: pytest.MonkeyPatch, recorded: str | None, fast: bool, used: str
) -> None:
    monkeypatch.setattr(precision, "has_fast_products", lambda: fast)
    assert readable(recorded, "cpu") == used
