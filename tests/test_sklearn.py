"""scikit-learn's estimators: their contract, searches, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from foreword.sklearn import ForewordClassifier, ForewordGenerator
from foreword.testing.method_contracts import FAMILIES, byte_tokenizer

CHECKS = (
    "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance",
    "check_set_params", "check_estimator_cloneable", "check_estimator_repr", "check_valid_tag_types",
    "check_estimator_tags_renamed",
)  # fmt: skip
FAST: dict[str, Any] = {"learning_rate": 0.05, "settings": {"max_steps": 4, "dev_fraction": 8}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sklearn") / "llama"
    make_config, make_model = FAMILIES["llama"].parts()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make_model(make_config(**{**FAMILIES["llama"].settings, "max_position_embeddings": 512}))
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def texts(count: int) -> list[str]:
    return [f"{'abcdefgh'[i % 8]}{i} {'x' if i % 2 else 'z'}" for i in range(count)]


@pytest.mark.parametrize("kind", [ForewordClassifier, ForewordGenerator])
@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_own_checks(kind: Any, name: str) -> None:
    getattr(estimator_checks, name)(kind.__name__, kind())


@pytest.mark.parametrize("classes", [("no", "yes"), (0, 1), (False, True), (1.0, 2.0)])
def test_classes_of_any_type_come_back_as_they_were(base: str, classes: tuple[Any, Any], tmp_path: Path) -> None:
    y = [classes[i % 2] for i in range(40)]
    model = ForewordClassifier(base, **FAST).fit(texts(40), y)
    assert list(model.classes_) == list(classes)
    answers = model.predict(texts(10))
    assert answers.dtype == np.asarray(y).dtype
    odds = model.predict_proba(texts(10))
    assert odds.shape == (10, 2)
    assert np.allclose(odds.sum(1), 1)
    assert list(answers) == [classes[i] for i in odds.argmax(1)]
    assert 0 <= model.score(texts(10), y[:10]) <= 1
    model.save(tmp_path / "model.foreword")
    again = ForewordClassifier.load(tmp_path / "model.foreword", base)
    assert np.allclose(again.predict_proba(texts(10)), odds, atol=1e-5)
    assert list(again.predict(texts(10))) == list(answers)


def test_it_stands_in_searches_pipelines_and_other_processes(base: str) -> None:
    y = np.array(["no", "yes"] * 30)
    model = ForewordClassifier(base, **FAST)
    scores = cross_val_score(
        Pipeline([("same", FunctionTransformer()), ("model", model)]), np.array(texts(60)), y, cv=2
    )
    assert scores.shape == (2,)
    search = GridSearchCV(model, {"learning_rate": [0.01, 0.05]}, cv=2, scoring="neg_log_loss", error_score="raise")
    search.fit(texts(60), y)
    assert search.best_params_["learning_rate"] in (0.01, 0.05)
    odds = search.best_estimator_.predict_proba(texts(4))
    copy = pickle.loads(pickle.dumps(search.best_estimator_))  # noqa: S301 - how joblib sends it
    assert copy.file_ != search.best_estimator_.file_
    assert np.allclose(copy.predict_proba(texts(4)), odds, atol=1e-5)
    with pytest.raises(NotFittedError):
        clone(search.best_estimator_).predict(texts(2))


def test_columns_of_a_frame_are_fields(base: str) -> None:
    frame = pd.DataFrame({"title": texts(40), "label": ["a", "b"] * 20})
    model = ForewordClassifier(base, template="{{ title }} {{ label }}:", **FAST).fit(frame, [0, 1] * 20)
    assert len(model.predict(frame[:4])) == 4


def test_a_generator_writes_and_scores(base: str, tmp_path: Path) -> None:
    settings = {**FAST["settings"], "max_new_tokens": 3}
    model = ForewordGenerator(base, learning_rate=0.05, settings=settings).fit(texts(40), [t[:2] for t in texts(40)])
    written = model.predict(texts(4))
    assert written.shape == (4,)
    assert isinstance(model.score(texts(4), ["a", "b", "c", "d"]), float)
    model.save(tmp_path / "writer.foreword")
    assert list(ForewordGenerator.load(tmp_path / "writer.foreword", base).predict(texts(4))) == list(written)


def test_what_cannot_be_learned_from_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="two classes"):
        ForewordClassifier(base).fit(texts(4), [1, 1, 1, 1])
    with pytest.raises(ValueError, match="4 rows and y has 3"):
        ForewordClassifier(base).fit(texts(4), [1, 0, 1])
