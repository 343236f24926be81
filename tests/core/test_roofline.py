"""The arithmetic that a step needs, and what a run says of its pace."""

from __future__ import annotations

import pytest

from foreword.core.passes.flops import matrix_rate, memory_rate, operations, weights
from foreword.testing.method_contracts import tiny
from foreword.training.throughput import Throughput


def test_every_linear_layer_behind_the_embedding_counts_once() -> None:
    # 3 layers: query and output 32 x 32, key and value 32 x 16, MLP 3 x (32 x 48).
    per_layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48
    assert weights(tiny("llama")) == 3 * per_layer
    # GPT-2's layers are Conv1D: 32 x 96, 32 x 32, 32 x 128, 128 x 32.
    assert weights(tiny("gpt2")) == 3 * (32 * 96 + 32 * 32 + 2 * 32 * 128)


def test_trained_weights_need_half_as_much_again() -> None:
    model = tiny("llama")
    assert operations(model, 10) == 4 * 10 * weights(model)
    assert operations(model, 10, trained=True) == pytest.approx(1.5 * operations(model, 10))


def test_rates_are_measured() -> None:
    assert matrix_rate(repeats=0) > 1e8
    assert memory_rate(repeats=0) > 1e7


def test_pace_counts_steps_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model, now = tiny("llama"), [100.0]
    monkeypatch.setattr("foreword.training.throughput.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("foreword.training.throughput._rate", lambda device, dtype: operations(model, 1000))
    pace = Throughput(model)
    assert pace.figures() == {}
    now[0] += 2
    assert pace.step(100) == {"tokens_per_second": 50.0, "share_of_floor": 0.05}
    now[0] += 60  # an evaluation
    pace.begin()
    now[0] += 2
    assert pace.step(300) == {"tokens_per_second": 100.0, "share_of_floor": 0.1}
