"""LoRA and full fine-tuning as runs: heads, starts from a file, a sweep, and what the file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import api
from foreword.artifact.store import load
from foreword.errors import SettingsError
from foreword.settings.schema import TrainRequest

Requests = Callable[..., TrainRequest]
HEAD: dict[str, Any] = {"head": True, "template": "{{ text }}"}


@pytest.mark.parametrize(
    ("method", "settings", "parts"),
    [
        ("lora", {"r": 2}, {"head", "lora_a", "lora_b"}),
        ("full", {}, {"head", "weights"}),
        ("full", {"train": "head"}, {"head"}),
    ],
)
def test_a_head_trains_beside_the_layers_of_an_encoder(
    method: str,
    settings: dict[str, Any],
    parts: set[str],
    tmp_path: Path,
    labelled: str,
    base: Callable[[str], str],
    request_of: Requests,
) -> None:
    asked = request_of(
        labelled, base("bert"), tmp_path / "run", task=HEAD, method=method, method_settings=settings,
        settings={"learning_rate": 1e-2, "max_steps": 4, "layerwise_decay": 0.9 if parts != {"head"} else 1.0},
    )  # fmt: skip
    result = api.train(asked)
    assert result.outcome == "learned"
    value, manifest = load(result.file)
    assert {name.partition("/")[0] for name in value.tensors()} == parts
    assert manifest.method == method
    assert api.verify(result.file).ok
    assert api.show(result.file)["num_values"] == value.num_values


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_starts_from_a_file_of_its_own_method(
    method: str, tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    steps = {"learning_rate": 3e-3, "max_steps": 6}
    first = api.train(request_of(labelled, base("llama"), tmp_path / "a", method=method, settings=steps))
    if first.outcome != "learned":
        pytest.skip("nothing was learned")
    again = request_of(
        labelled, base("llama"), tmp_path / "b", method=method, init_from=first.file, settings={**steps, "max_steps": 1}
    )
    assert api.train(again).rows == first.rows
    with pytest.raises(SettingsError, match="starts from keys and values"):
        api.train(request_of(labelled, base("llama"), tmp_path / "c", method="prefix", init_from=first.file))


def test_weights_are_swept_one_after_another(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    asked = request_of(
        labelled, base("llama"), tmp_path / "run", method="full", method_settings={"train": "top:1"},
        settings={"learning_rate": None, "sweep": (1e-2, 1e-3), "max_steps": 4, "side_by_side": "on"},
    )  # fmt: skip
    report = api.train(asked)
    assert report.seconds > 0
    assert api.ls(tmp_path / "run")[0]["virtual_tokens"] == 0


def test_the_plan_says_how_large_the_file_becomes(
    tmp_path: Path, labelled: str, base: Callable[[str], str], request_of: Requests
) -> None:
    plan = api.dry_run(request_of(labelled, base("llama"), tmp_path / "run", method="full"))
    assert plan["file_mib"] == round(plan["trainable_values"] * 4 / 2**20, 1)
