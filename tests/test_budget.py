"""Budgets as people write them, and the clock that counts them down."""

from __future__ import annotations

import pytest

from foreword.errors import SettingsError
from foreword.settings.budget import Clock, budget_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20min", 1200), ("1h30m", 5400), ("45", 45), (" 2 min ", 120), ("1.5h", 5400), ("light", 300)],
)
def test_budgets(text: str, seconds: float) -> None:
    assert budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "0", "3 days", "5s left"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="not a budget"):
        budget_seconds(text)


def test_the_clock_counts_what_was_spent_before() -> None:
    clock = Clock(100.0, before=60.0)
    assert 60 <= clock.spent < 70
    assert clock.allows(20)
    assert not clock.allows(45)
    assert Clock(None).allows(1e9)
