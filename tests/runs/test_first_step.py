"""What a run does before its first step: how many files that takes, and that every row is tokenised once."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import foreword
from foreword import api
from foreword.cli.main import main
from foreword.errors import DataError

# The aim is 60. Most files are small and a row passes through many rooms; this keeps the number from growing unseen.
MOST_FILES = 131


class Reached(BaseException):
    """The first backward pass begins."""


def reached(*args: object, **options: object) -> None:
    sys.setprofile(None)
    raise Reached


@pytest.fixture
def until_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "backward", reached)


def test_few_files_are_run_before_the_first_step(
    until_first_step: None, labelled: str, base: Callable[[str], str], tmp_path: Path
) -> None:
    root = str(Path(foreword.__file__).parent)
    # What is run when a file is imported does not count.
    for room in ("cli", "core", "data", "evaluation", "methods", "runs", "settings", "training"):
        for module in pkgutil.walk_packages([f"{root}/{room}"], f"foreword.{room}."):
            import_module(module.name)
    arguments = ["train", labelled, "--base", base("llama"), "--output-dir", str(tmp_path / "run")]
    files: set[str] = set()

    def profile(frame: Any, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and str(code.co_filename).startswith(root):
            files.add(code.co_filename)

    sys.setprofile(profile)
    try:
        with pytest.raises(Reached):
            main([*arguments, "--guidance", "Say yes or no.", "--template", "{{ text }}:"])
    finally:
        sys.setprofile(None)
    assert 0 < len(files) <= MOST_FILES, sorted(files)


def test_every_row_is_tokenised_once(
    until_first_step: None,
    monkeypatch: pytest.MonkeyPatch,
    labelled: str,
    base: Callable[[str], str],
    tmp_path: Path,
    request_of: Callable[..., Any],
) -> None:
    texts: Counter[str] = Counter()
    real = transformers.PreTrainedTokenizerBase.__call__

    def counted(self: Any, text: Any = None, *args: Any, **options: Any) -> Any:
        texts.update([text] if isinstance(text, str) else text)
        return real(self, text, *args, **options)

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "__call__", counted)
    with pytest.raises(Reached):
        api.train(request_of(labelled, base("llama"), tmp_path / "run"))
    lines = Path(labelled).read_text(encoding="utf-8").splitlines()[1:]
    assert len(lines) == 60
    assert [texts[line.partition(",")[0] + ":"] for line in lines] == [1] * 60
    # Beside the rows there are the guidance and the words of the labels, however many rows there are.
    assert texts.total() < 60 + 60


def test_data_are_made_ready_and_checked_without_torch(labelled: str) -> None:
    code = f"""
import json, sys
from foreword.runs.prepare.check_data import check
from foreword.runs.prepare.ready_data import ready_data
from foreword.settings.schema import TrainRequest
report = check({labelled!r})
ready = ready_data(TrainRequest({labelled!r}, "a-base", "out"))
print(json.dumps([report.refuses, len(ready.tables["train"]) > 0, "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, False]


def test_a_row_that_is_too_long_is_named_and_left_out_on_demand(
    until_first_step: None, tmp_path: Path, base: Callable[[str], str], request_of: Callable[..., Any]
) -> None:
    rows = [{"text": f"{'x' if i % 2 else 'z'}{i}", "label": ["no", "yes"][i % 2]} for i in range(40)]
    rows[7] = {**rows[7], "text": "w" * 600}
    with pytest.raises(DataError, match="longer than the model can read") as refused:
        api.train(request_of(rows, base("llama"), tmp_path / "run"))
    assert "the model reads 512" in str(refused.value)
    with pytest.raises(Reached):
        api.train(request_of(rows, base("llama"), tmp_path / "run", skip_bad=True))
