"""Probabilities that mean what they say: one temperature for a foreword's labels, fitted on labelled rows that it did
not learn from (Guo et al. 2017, "On Calibration of Modern Neural Networks").

What is told of it is held out: each fifth of the rows is judged with the temperature of the other four. The label that
is chosen never changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from foreword.data.readers.read import read
from foreword.data.row import label_text
from foreword.errors import DataError, SettingsError
from foreword.serve.engine.jobs import ScoreJob
from foreword.serve.engine.library import Library
from foreword.serve.engine.prompting import fields_of, row_of
from foreword.serve.engine.score_rows import score

_BINS, _FOLDS, _LEAST, _PASS = 10, 5, 50, 32
_RANGE = (math.log(0.05), math.log(20.0))


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the expected calibration error of the probabilities without and with it.

    Attributes:
        rows: that it was fitted on.
        ece_before, ece_after: mean distance of confidence and accuracy, over ten bins of equally many rows; ``after``
            on rows that the temperature was not fitted on.
    """

    temperature: float
    rows: int
    ece_before: float
    ece_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def of(self, probabilities: dict[str, float]) -> dict[str, float]:
        """The probabilities at the temperature."""
        shares = _at(np.array([list(probabilities.values())]), self.temperature)[0]
        return dict(zip(probabilities, shares.tolist(), strict=True))


def calibrate(probabilities: Sequence[dict[str, float]], gold: Sequence[str]) -> Calibration:
    """Fit the temperature.

    Args:
        probabilities: of each row, label -> p.
        gold: each row's right label.

    Raises:
        DataError: fewer than 50 rows.
    """
    if len(gold) < _LEAST:
        raise DataError("too few rows to calibrate on", expected=f"at least {_LEAST}", received=len(gold))
    labels = list(probabilities[0])
    p = np.array([[row[label] for label in labels] for row in probabilities])
    y = np.array([labels.index(label) for label in gold])
    fold = np.random.default_rng(13).permutation(len(y)) % _FOLDS
    after = np.empty_like(p)
    for number in range(_FOLDS):
        held = fold == number
        after[held] = _at(p[held], _fitted(p[~held], y[~held]))
    return Calibration(_fitted(p, y), len(y), expected_error(p, y), expected_error(after, y))


def expected_error(p: Any, y: Any) -> float:
    """The expected calibration error of ``p [N, C]`` for the labels ``y [N]``."""
    confidence, right = p.max(1), (p.argmax(1) == y).astype(float)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(_BINS, len(y)))
    return float(sum(abs(confidence[part].mean() - right[part].mean()) * len(part) for part in parts) / len(y))


def _at(p: Any, temperature: float) -> Any:
    logs = np.log(np.clip(p, 1e-30, None)) / temperature
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def _fitted(p: Any, y: Any) -> float:
    def loss(log_temperature: float) -> float:
        return float(-np.log(np.clip(_at(p, math.exp(log_temperature))[np.arange(len(y)), y], 1e-30, None)).mean())

    return math.exp(float(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def calibrated_on(library: Library, name: str, path: Path) -> Calibration:
    """Score the rows of a file with a foreword and fit its temperature; a row counts once, in its file's order.

    Raises:
        UnknownModelError: there is no such foreword.
        SettingsError: it does not choose a label.
        DataError: the file cannot be read, a label is none of the task's, or there are fewer than 50 rows.
    """
    served, first_k = library.get(name), library.entry(name).first_k
    task = served.task
    if task.kind != "classification":
        raise SettingsError("only labels have a calibration", where="--calibrate", received=f"{name}: {task.kind}")
    table = read(str(path), inputs=tuple(fields_of(task)), target=task.target)
    gold = [label_text(row.fields.get(task.target)) for row in table.rows]
    odd = next((label for label in gold if label not in task.labels), None)
    if odd is not None:
        raise DataError("a label is none of the task's", where=str(path), expected=", ".join(task.labels), received=odd)
    rows = [{field: row.fields[field] for field in fields_of(task)} for row in table.rows]
    jobs = [ScoreJob(served, row_of(served, row, first_k), print) for row in rows]
    parts = [jobs[start : start + _PASS] for start in range(0, len(jobs), _PASS)]
    scored = [row for part in parts for row in library.engine.call(partial(score, part)).result()]
    return calibrate([row.probabilities for row in scored], gold)


def parse(text: str) -> tuple[str, Path]:
    """``NAME=FILE``.

    Raises:
        SettingsError: it is not.
    """
    name, _, file = text.partition("=")
    if not name or not file:
        raise SettingsError("which rows for which foreword?", where="--calibrate", expected="NAME=FILE", received=text)
    return name, Path(file)
