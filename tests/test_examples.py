"""Every public name shows how it is used, and what it shows is run, on a tiny base."""

from __future__ import annotations

import doctest
import inspect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import foreword
from foreword import api, train
from tests.runs.conftest import save_tiny

NAMES = sorted({*foreword.__all__, *api.__all__})
# These train several times or start processes, which takes a minute each; they are shown in docs and have tests.
LONG = {
    "DistillResult", "distill", "feedback", "predict_all", "resume_distillation", "resume_folds", "run_all", "sweep",
    "transfer",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, rows with labels, a classifier, a writer, and a finished run."""
    folder = tmp_path_factory.mktemp("examples")
    save_tiny(folder / "base", "llama")
    rows = [f"a {'fine' if i % 2 else 'dull'} film {i:02},{'good' if i % 2 else 'bad'}" for i in range(40)]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    settings: dict[str, Any] = {"base": str(folder / "base"), "learning_rate": 0.02, "max_steps": 2, "progress": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foreword.training.events.Score.above", lambda self, other: True)  # whatever dev says
        patch.chdir(folder)
        train("reviews.csv", output_dir="finished", num_virtual_tokens=4, **settings)
        pairs = [{"prompt": f"a film {i}", "completion": "fine"} for i in range(12)]
        train(pairs, output_dir="written", num_virtual_tokens=4, **settings)
    (folder / "saved").mkdir()
    for run, name in (
        ("finished", "model.foreword"),
        ("finished", "saved/model.foreword"),
        ("written", "writer.foreword"),
    ):
        shutil.copy(folder / run / "model.foreword", folder / name)
    return folder


@pytest.fixture
def inside(folder: Path, tmp_path: Path) -> Iterator[None]:
    """In a copy of the folder, so that no example finds what another one left."""
    shutil.copytree(folder, tmp_path / "here")
    before = Path.cwd()
    os.chdir(tmp_path / "here")
    yield
    os.chdir(before)


def docstring(name: str) -> str:
    thing = getattr(api if name in api.__all__ else foreword, name)
    return inspect.getdoc(inspect.unwrap(thing)) or ""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LONG])
def test_the_example_of_a_name(name: str, inside: None) -> None:
    text = docstring(name)
    assert ">>>" in text, f"{name} shows no example"
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    shown: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=shown.append)
    assert not shown, "".join(shown)
