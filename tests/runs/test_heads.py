"""The contracts over every head of the folder; a new head's file is found by itself, with nothing changed here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foreword import api
from foreword.data.readers.read import read
from foreword.data.task.infer import make_task
from foreword.data.task.task import Task
from foreword.errors import SettingsError
from foreword.settings.schema import TrainRequest
from foreword.testing.head_contracts import HEAD_CONTRACTS, check_head, model_for, tried
from foreword.testing.method_contracts import byte_tokenizer
from foreword.training.heads.base import registry
from foreword.training.objective import make_objective

# One family for each way to run a pass: end to end, padded, sliding windows, recurrent layers, states, encoders, both.
FAMILIES = ("llama", "gpt2", "gemma3", "qwen3_next", "lstm", "bert", "modernbert", "t5", "bart")
MAXIMUM = '''
"""The largest value of each dimension over the row's tokens."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from foreword.core.passes.scoring import states_at
from foreword.training.heads.base import one_a_row
from foreword.training.heads.pooled import Classify


@dataclass(frozen=True)
class Maximum(Classify):
    name: ClassVar[str] = "maximum"
    poolings: ClassVar[tuple[str, ...]] = ("max",)

    def outputs(self, model, batch):
        inputs = [(*self.lead, *e.input_ids) for e in batch]
        states, rows = states_at(model, inputs, [list(range(len(ids))) for ids in inputs], self.fill)
        return one_a_row(torch.stack([states[rows == row].amax(0) for row in range(len(batch))]))
'''


@pytest.mark.parametrize(("name", "number"), tried())
@pytest.mark.parametrize("family", FAMILIES)
def test_contracts(name: str, number: int, family: str) -> None:
    head = registry()[name].tried()[number]
    model = model_for(head, family)
    if model is None:
        assert {"llama": "decoder", "bert": "encoder", "t5": "encoder-decoder"}.get(family) not in head.kinds
        return
    for check in HEAD_CONTRACTS.values():
        check(head, model, f"{head} on {family}")


def tasks() -> list[Task]:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    several = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": ["y"]}]
    tagged = [{"tokens": ["a", "b"], "tags": ["B-x", "O"]}]
    return [
        make_task(read(rows)), make_task(read(rows), template="{{ text }} {{ mask }}"),
        *(make_task(read(rows), head=True, pooling=pooling) for pooling in ("mean", "cls", "last")),
        make_task(read(several)), make_task(read(several), template="{{ text }} {{ mask }}"),
        make_task(read(several), head=True), make_task(read(tagged)),
        make_task(read([{"prompt": "a", "completion": "b"}])), make_task(read([{"text": "a"}])),
    ]  # fmt: skip


def test_every_task_has_one_head_and_every_head_a_task() -> None:
    found = [[name for name, kind in registry().items() if kind.suits(task)] for task in tasks()]
    assert all(len(names) == 1 for names in found)
    assert {name for names in found for name in names} == registry().keys()


def test_states_that_no_head_reads_are_refused() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    with pytest.raises(SettingsError, match="mean, cls, last"):
        make_objective(make_task(read(rows), head=True, pooling="max"), byte_tokenizer())


@pytest.fixture
def dropped_in(tmp_path: Path) -> Iterator[None]:
    """A new file in the folder of heads, for the time of a test."""
    package = importlib.import_module("foreword.training.heads")
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "maximum.py").write_text(MAXIMUM)
    package.__path__.append(str(tmp_path / "heads"))
    registry.cache_clear()
    yield
    package.__path__.pop()
    sys.modules.pop("foreword.training.heads.maximum", None)
    registry.cache_clear()


def test_a_new_file_is_a_head_with_every_contract(
    dropped_in: None, labelled: str, base: Callable[[str], str], request_of: Callable[..., TrainRequest], tmp_path: Path
) -> None:
    assert ("maximum", 0) in list(tried())
    check_head("maximum", ("llama", "bert"))
    task = {"head": True, "pooling": "max", "template": "{{ text }}"}
    made = api.train(request_of(labelled, base("bert"), tmp_path / "run", task=task, settings={"max_steps": 2}))
    assert api.verify(made.file).ok
