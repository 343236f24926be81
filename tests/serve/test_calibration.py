"""Probabilities that mean what they say, as far as labelled rows show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foreword.core.base.load import Base
from foreword.errors import DataError, SettingsError
from foreword.serve.app.label_calibration import calibrate, expected_error
from tests.serve.conftest import serving


def drawn(count: int, sharpness: float) -> tuple[list[dict[str, float]], list[str]]:
    """Labels drawn from the probabilities, which are then made ``sharpness`` times as sure."""
    rng = np.random.default_rng(1)
    logs = rng.normal(size=(count, 3))
    true = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    told = np.exp(sharpness * logs) / np.exp(sharpness * logs).sum(1, keepdims=True)
    gold = ["abc"[rng.choice(3, p=row)] for row in true]
    return [dict(zip("abc", row.tolist(), strict=True)) for row in told], gold


def test_too_sure_probabilities_are_made_as_sure_as_they_may_be() -> None:
    fitted = calibrate(*drawn(2000, 4.0))
    assert fitted.temperature == pytest.approx(4.0, rel=0.1)
    assert fitted.ece_before > 0.2
    assert fitted.ece_after < 0.05
    assert fitted.rows == 2000


def test_right_probabilities_stay_and_no_label_changes() -> None:
    rows, gold = drawn(2000, 1.0)
    fitted = calibrate(rows, gold)
    assert fitted.temperature == pytest.approx(1.0, abs=0.1)
    for row in rows[:50]:
        after = fitted.of(row)
        assert sum(after.values()) == pytest.approx(1)
        assert max(after, key=after.__getitem__) == max(row, key=row.__getitem__)


def test_the_error_is_the_distance_of_confidence_and_accuracy() -> None:
    p = np.array([[0.9, 0.1]] * 100)
    assert expected_error(p, np.array([0, 1] * 50)) == pytest.approx(0.4)


def test_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        calibrate(*drawn(20, 1.0))


def rows(path: Path, labels: str) -> Path:
    lines = [f"text {number},{labels.split()[number % len(labels.split())]}" for number in range(60)]
    path.write_text("\n".join(["text,label", *lines]))
    return path


def test_a_server_tells_its_calibration_and_answers_with_it(base: Base, folder: Path, tmp_path: Path) -> None:
    file = rows(tmp_path / "dev.csv", "yes no")
    body = {"model": "choose", "input": "text 3"}
    with serving(base, folder) as client:
        before = client.post("/v1/classify", json=body).json()["data"][0]
        assert "calibration" not in client.get("/v1/models/choose").json()
    with serving(base, folder, calibrate=(f"choose={file}",)) as client:
        after = client.post("/v1/classify", json=body).json()["data"][0]
        told = client.get("/v1/models/choose").json()["calibration"]
        assert "calibration" not in client.get("/v1/models/writer").json()
    assert told["rows"] == 60
    assert 0 <= told["ece_after"] <= 1
    assert after["label"] == before["label"]
    p = np.array(list(before["probabilities"].values())) ** (1 / told["temperature"])
    assert list(after["probabilities"].values()) == pytest.approx((p / p.sum()).tolist(), abs=1e-5)


def test_rows_that_cannot_calibrate_end_the_start(base: Base, folder: Path, tmp_path: Path) -> None:
    for text, problem in (
        ("choose", "which rows"),
        (f"writer={rows(tmp_path / 'a.csv', 'yes no')}", "only labels"),
        (f"choose={rows(tmp_path / 'b.csv', 'yes perhaps')}", "none of the task's"),
    ):
        with pytest.raises((SettingsError, DataError), match=problem), serving(base, folder, calibrate=(text,)):
            pass
