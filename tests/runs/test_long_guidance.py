"""A guidance that is longer than what the base reads is told as that, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreword import train
from foreword.errors import SettingsError


def test_a_guidance_longer_than_the_window_is_named(tmp_path: Path, base: Callable[[str], str]) -> None:
    rows = [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(20)]
    how: dict[str, Any] = {"guidance": "Answer with care. " * 400, "learning_rate": 0.01, "max_steps": 1}
    with pytest.raises(SettingsError, match="no room for the rows") as caught:
        train(rows, base=base("gpt2"), output_dir=tmp_path / "run", **how)
    assert "--guidance" in str(caught.value) or "guidance" in str(caught.value)
