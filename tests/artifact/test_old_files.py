"""Files that an earlier release wrote load, verify and answer as they did; ``before/`` holds them and their base.

They were written before the house was rebuilt; only the name of the base in them, and the digest of the text that holds
it, were changed, from a folder of the machine they were made on.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.artifact.store import load
from foreword.runs.use.verify import verify

BEFORE = Path(__file__).parent / "before"


@pytest.mark.parametrize(("version", "method"), [(1, "prefix"), (2, "lora")])
def test_a_file_of_an_earlier_release_loads_and_verifies(version: int, method: str) -> None:
    path = BEFORE / f"format-{version}.foreword"
    value, manifest = load(path)
    assert (manifest.format_version, manifest.method) == (version, method)
    assert value.num_values > 0
    report = verify(path, base=str(BEFORE / "base"))
    assert report.ok
