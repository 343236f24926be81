"""scikit-learn estimators: a classifier and a generator of texts for pipelines, grid searches and cross-validation.

Both learn a foreword on a frozen base and keep it as one ``.foreword`` file; nothing is pickled but that file's bytes.

>>> from foreword.sklearn import ForewordClassifier
>>> model = ForewordClassifier("HuggingFaceTB/SmolLM2-135M-Instruct", learning_rate=0.02, num_train_epochs=1)
>>> model.get_params()["method"]
'prefix'
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from foreword.artifact.store import load, save
from foreword.core.base.load import Base
from foreword.data.row import label_text
from foreword.errors import SettingsError
from foreword.evaluation.metrics.metric_registry import get_metric
from foreword.evaluation.prediction_files import Predictions
from foreword.runs.prepare.base import find_base
from foreword.runs.train.result import TrainResult
from foreword.runs.train.train import train
from foreword.runs.use.use import predict
from foreword.settings.schema import SCRATCH

__all__ = ["ForewordClassifier", "ForewordGenerator"]


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: parameters, training, the file."""

    def __init__(
        self,
        base: str | Base = "HuggingFaceTB/SmolLM2-135M-Instruct",
        *,
        method: str = "prefix",
        guidance: str | None = None,
        template: str | None = None,
        metric: str | None = None,
        learning_rate: float | None = None,
        num_train_epochs: float = 3.0,
        per_device_train_batch_size: int | str = 16,
        seed: int = 13,
        settings: Mapping[str, Any] | None = None,
        output_dir: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        self.base = base
        self.method = method
        self.guidance = guidance
        self.template = template
        self.metric = metric
        self.learning_rate = learning_rate
        self.num_train_epochs = num_train_epochs
        self.per_device_train_batch_size = per_device_train_batch_size
        self.seed = seed
        self.settings = settings
        self.output_dir = output_dir
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The parameters and the file's bytes: a copy in another process has a file of its own."""
        state = dict(self.__dict__)
        state.pop("_folder", None)
        if "file_" in state:
            state["_bytes"] = Path(state.pop("file_")).read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        data = state.pop("_bytes", None)
        self.__dict__.update(state)
        if data is not None:
            (self._own_folder() / "model.foreword").write_bytes(data)
            self.file_ = str(self._own_folder() / "model.foreword")

    @property
    def foreword_(self) -> Any:
        """The learned value."""
        check_is_fitted(self, "file_")
        return load(self.file_)[0]

    def _own_folder(self) -> Path:
        """A folder that is removed with the estimator."""
        if "_folder" not in self.__dict__:
            self._folder = tempfile.mkdtemp(prefix="foreword-")
            weakref.finalize(self, shutil.rmtree, self._folder, True)
        return Path(self._folder)

    def _train(self, rows: list[dict[str, object]], target: str, **more: Any) -> TrainResult:
        """Learn from rows; without a test part, since whoever calls keeps rows apart for that."""
        shutil.rmtree(self.__dict__.pop("_folder", ""), ignore_errors=True)
        given = {
            "method": self.method, "guidance": self.guidance, "template": self.template, "metric": self.metric,
            "learning_rate": self.learning_rate, "num_train_epochs": self.num_train_epochs,
            "per_device_train_batch_size": self.per_device_train_batch_size, "seed": self.seed,
            "inputs": tuple(name for name in rows[0] if name != target), "target": target, "test_fraction": 0,
            "skip_bad": True, **more, **(self.settings or {}),
        }  # fmt: skip
        folder = self.output_dir or self._own_folder() / "run"
        given["progress"] = None if self.progress else False
        return train(rows, _loaded(self.base, self.template), folder, **given)

    def _answers(self, X: Any) -> Predictions:
        check_is_fitted(self, "file_")
        rows = _rows(X, self.single_)
        return predict(self.file_, rows, base=cast(Any, _loaded(self.base, self.template)))

    def save(self, path: str | Path) -> None:
        """Write the foreword as one ``.foreword`` file, which :meth:`load` and every command take.

        Raises:
            NotFittedError: nothing was learned yet.
            ForewordError: it cannot be written.
        """
        check_is_fitted(self, "file_")
        value, manifest = load(self.file_)
        save(path, value, manifest.model_copy(update={"notes": json.dumps(self._notes())}))

    def _notes(self) -> dict[str, Any]:
        return {"input": self.single_}

    @classmethod
    def load(cls, path: str | Path, base: str | Base | None = None) -> Self:
        """The inverse of :meth:`save`; also takes a file that ``foreword train`` wrote.

        Args:
            base: where the base is, where it is not found by the name in the file.

        Raises:
            FileFormatError: the file is damaged or no foreword.
        """
        _, manifest = load(path)
        try:
            notes = json.loads(manifest.notes or "{}")
        except ValueError:
            notes = {}
        made = cls(base=base if base is not None else manifest.base.id, method=manifest.method)
        made.file_, made.single_ = str(path), notes.get("input", "text")
        made._restore(manifest.task, notes)
        return made

    def _restore(self, task: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """Set what a fitted estimator knows beside its file."""


class ForewordClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """Classify texts by a learned foreword in front of a frozen language model.

    ``X`` is a sequence of texts, a DataFrame or a list of dicts with the template's fields, or an array of texts with a
    column each; ``y`` the classes, of any type. Part of the training rows (``dev_fraction`` in ``settings``, a tenth)
    chooses the checkpoint. Rows that the check refuses, such as equal texts of two classes, are left out and counted in
    ``skipped_``.

    Args:
        base: hub id, folder, GGUF file, or a base that ``load_base`` has loaded.
        method: ``prefix``, ``prompt``, ``ptuning``, ``lora``, ``full`` or ``text``.
        guidance: the prompt; None makes one from the classes.
        template: Jinja2 text of a row; None makes one from the columns.
        labels: class -> words that the model says for it; None says the class itself.
        settings: any other settings by their names.
        output_dir: the run's folder; None keeps only the file.
        progress: show it on standard error.

    Attributes:
        classes_: the classes, sorted.
        file_: the ``.foreword`` file. ``foreword_``: the value in it. ``result_``: what the run came to.
    """

    def __init__(
        self,
        base: str | Base = "HuggingFaceTB/SmolLM2-135M-Instruct",
        *,
        method: str = "prefix",
        guidance: str | None = None,
        template: str | None = None,
        labels: Mapping[Any, str] | None = None,
        metric: str | None = None,
        learning_rate: float | None = None,
        num_train_epochs: float = 3.0,
        per_device_train_batch_size: int | str = 16,
        seed: int = 13,
        settings: Mapping[str, Any] | None = None,
        output_dir: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            base, method=method, guidance=guidance, template=template, metric=metric, learning_rate=learning_rate,
            num_train_epochs=num_train_epochs, per_device_train_batch_size=per_device_train_batch_size, seed=seed,
            settings=settings, output_dir=output_dir, progress=progress,
        )  # fmt: skip
        self.labels = labels

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from texts and their classes.

        Raises:
            ValueError: X and y are not of one length, or there is one class only.
            and whatever :func:`foreword.train` raises.
        """
        texts, single = _table(X)
        classes = np.unique(np.asarray(y))
        _same_length(texts, y)
        if len(classes) < 2:
            raise ValueError("ForewordClassifier needs samples of two classes at least; there is one")
        self.classes_, self.single_ = classes, single
        target = _free("label", texts[0])
        rows = [{**row, target: _name(label)} for row, label in zip(texts, np.asarray(y), strict=True)]
        words = self.labels or {}
        labels = {_name(label): words.get(label, words.get(_name(label), _name(label))) for label in classes}
        self.result_ = self._train(rows, target, labels=labels)
        self.file_ = self.result_.file
        self.skipped_ = len(rows) - sum(self.result_.rows.values())
        return self

    def predict(self, X: Any) -> Any:
        """The class of each text, an array of shape [B]."""
        names = {_name(label): label for label in self.classes_} if hasattr(self, "classes_") else {}
        found = [names[answer.output] for answer in self._answers(X)]
        return np.asarray(found, dtype=self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, an array of shape [B, C] in the order of ``classes_``."""
        answers = self._answers(X)
        scores = np.asarray([[answer.scores[_name(label)] for label in self.classes_] for answer in answers])
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _notes(self) -> dict[str, Any]:
        return {**super()._notes(), "classes": self.classes_.tolist()}

    def _restore(self, task: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        if task.get("kind") != "classification":
            raise SettingsError("this foreword is no classifier", where=self.file_, received=task.get("kind"))
        self.classes_ = np.asarray(notes.get("classes") or sorted(map(str, task["verbalizer"])))


class ForewordGenerator(_Estimator):
    """Write a text for each text, by a learned foreword in front of a frozen language model.

    ``X`` is a sequence of texts, ``y`` the right answers. ``score`` is the task's metric, higher is better.

    Args:
        metric: the metric that decides on dev and in ``score``; None: the task's own.
        settings: any other settings by their names, such as ``max_new_tokens``.
        base, method, guidance, template, output_dir, progress: as for :class:`ForewordClassifier`.
    """

    def fit(self, X: Any, y: Sequence[str]) -> Self:
        """Learn from texts and the right answers. Raises ValueError where X and y are not of one length."""
        texts, single = _table(X, "prompt")
        _same_length(texts, y)
        self.single_ = single
        target = _free("completion", texts[0])
        rows = [{**row, target: str(answer)} for row, answer in zip(texts, y, strict=True)]
        self.result_ = self._train(rows, target)
        self.file_, self.metric_ = self.result_.file, self.result_.metric
        self.skipped_ = len(rows) - sum(self.result_.rows.values())
        return self

    def predict(self, X: Any) -> Any:
        """What is written for each text, an array of texts of shape [B]."""
        return np.asarray([answer.output for answer in self._answers(X)], dtype=object)

    def score(self, X: Any, y: Sequence[str]) -> float:
        """The metric over all rows; one of which lower is better comes negated."""
        metric = get_metric("exact_match" if self.metric_ == "perplexity" else self.metric_)
        figure = float(metric.corpus(list(self.predict(X)), [str(answer) for answer in y]))
        return figure if metric.better == "higher" else -figure

    def _restore(self, task: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        if task.get("kind") != "generation":
            raise SettingsError("this foreword writes nothing", where=self.file_, received=task.get("kind"))
        self.metric_ = str(task.get("metric", "exact_match"))


@lru_cache(maxsize=1)
def _load(name: str) -> Base:
    return find_base(name, dtype="auto")


def _loaded(base: str | Base, template: str | None) -> str | Base:
    """The base, loaded once for all the fits of a search; by its name where it is made or loaded in another way."""
    if not isinstance(base, str) or base in SCRATCH or "mask" in (template or ""):
        return base
    return _load(base)


def _table(X: Any, single: str = "text") -> tuple[list[dict[str, object]], str]:
    """Rows by column, and the name of the column where there is one only."""
    rows = _rows(X, single)
    if not rows:
        raise ValueError("X has no rows")
    return rows, next(iter(rows[0])) if len(rows[0]) == 1 else single


def _rows(X: Any, single: str) -> list[dict[str, object]]:
    if hasattr(X, "columns") and hasattr(X, "to_dict"):
        return [{str(name): value for name, value in row.items()} for row in X.to_dict("records")]
    values = list(X)
    if values and isinstance(values[0], Mapping):
        return [dict(row) for row in values]
    if values and isinstance(values[0], list | tuple | np.ndarray):
        if len(values[0]) == 1:
            return [{single: str(row[0])} for row in values]
        return [{f"x{i}": str(cell) for i, cell in enumerate(row)} for row in values]
    return [{single: str(text)} for text in values]


def _name(label: object) -> str:
    """A class as the label in the data: 1 and 1.0 are ``1``, True is ``true``."""
    return label_text(label.item() if isinstance(label, np.generic) else label)


def _free(name: str, row: Mapping[str, object]) -> str:
    while name in row:
        name += "_"
    return name


def _same_length(rows: Sequence[object], y: Any) -> None:
    if len(rows) != len(y):
        raise ValueError(f"X has {len(rows)} rows and y has {len(y)}")
