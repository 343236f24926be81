"""bench/tasks.py on tiny bases: every row is tested once, with an untrained start beside it, and nothing runs twice."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foreword.core.base.load import load_base
from foreword.progress import Progress

ROOT = Path(__file__).parents[2]
SUBJECTS = ("rain", "snow", "wind", "the sun", "fog", "ice")


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_tasks", ROOT / "bench" / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """RTE's folder with made-up rows."""
    folder = tmp_path / "data" / "superglue_fewshot" / "RTE"
    folder.mkdir(parents=True)
    for number, (name, count) in enumerate((("train32", 8), ("dev32", 6), ("test", 10))):
        rows = [
            {
                "premise": f"Day {number}{i} began with {SUBJECTS[i % 6]}.",
                "hypothesis": f"There was {SUBJECTS[(i + i % 2) % 6]} on day {number}{i}.",
                "label": "not_entailment" if i % 2 else "entailment",
            }
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


def asked(data: Path, output: Path) -> argparse.Namespace:
    return argparse.Namespace(data=data, output=output, seed=1, share=1.0, method="prefix")


def test_every_test_row_is_tested_once_and_never_learned_from_in_its_run(bench: Any, data: Path) -> None:
    found = bench.splits("rte_minilm", bench.SPECS["rte_minilm"], data)
    parts = [bench.folded(found, fold, 5) for fold in range(5)]
    texts = [[row["premise"] for row in part["test"]] for part in parts]
    assert sorted(text for part in texts for text in part) == sorted(row["premise"] for row in found["test"])
    for part, tested in zip(parts, texts, strict=True):
        assert len(part["train"]) == 8 + 10 - len(tested)
        assert not {row["premise"] for row in part["train"]} & set(tested)
    assert [len(rows) for rows in bench.splits("rte_minilm", bench.SPECS["rte_minilm"], data, 0.9).values()] == [
        8,
        6,
        9,
    ]


def test_a_head_with_its_start_beside_it(
    bench: Any, data: Path, base: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = bench.SPECS["rte_minilm"]
    small = replace(spec, settings={**spec.settings, "num_train_epochs": 1}, folds=2)
    monkeypatch.setitem(bench.SPECS, "rte_minilm", small)
    bases = {"minilm": load_base(base("bert"))}
    with Progress() as progress:
        found = bench.run("rte_minilm", asked(data, tmp_path / "out"), bases, progress)
        again = bench.run("rte_minilm", asked(data, tmp_path / "out"), bases, progress)
    assert again == json.loads(json.dumps(found))
    assert found["rows"] == {"train": 13, "dev": 6, "test": 10}
    assert list(found["figures"]) == ["start", "foreword"]
    assert found["constant"]["share"] == 0.5
    assert found["difference"]["rows"] == 10
    shown = bench.render([found], ["story: nowhere"])
    assert "2 runs that test each row once" in shown
    assert "always" in shown
    assert shown.endswith("missing, left out: story: nowhere")


def test_words_with_the_prompt_beside_them(
    bench: Any, data: Path, base: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = bench.SPECS["rte_smollm2"]
    monkeypatch.setitem(
        bench.SPECS, "rte_smollm2", replace(spec, settings={"max_steps": 1, "learning_rate": 1e-9}, folds=0)
    )
    with Progress() as progress:
        found = bench.run("rte_smollm2", asked(data, tmp_path / "out"), {"smollm2": load_base(base("llama"))}, progress)
    # Whether or not the text itself was saved, it is the prompt that stands beside.
    assert list(found["figures"]) == ["prompt", "foreword"]
    assert found["rows"]["train"] == 8
