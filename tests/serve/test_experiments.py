"""Two forewords behind one name, and the feedback that says which is better."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from foreword.core.base.load import Base
from foreword.errors import SettingsError
from foreword.serve.app.experiments import Experiment, Experiments, parse
from foreword.serve.engine.library import UnknownAnswerError
from tests.serve.conftest import serving
from tests.serve.test_app import ask


def test_requests_are_split_and_feedback_names_the_better_one(base: Base, folder: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    with serving(base, folder, splits=("help=writer,other",), feedback=scores) as client:
        assert "help" in [model["id"] for model in client.get("/v1/models").json()["data"]]
        answer = ask(client, "help", max_tokens=2)
        assert answer.json()["model"] in ("writer", "other")
        body = {"id": answer.json()["id"], "score": 1}
        assert client.post("/v1/feedback", json=body).json()["id"] == "help"
        assert client.post("/v1/feedback", json=body).status_code == 404
        assert client.post("/v1/feedback", json={"id": "x", "score": 2}).status_code == 400
        state = client.get("/v1/experiments").json()["data"][0]
        assert state["a"]["scores"] + state["b"]["scores"] == 1
        assert (state["better"], state["p"]) == (None, 1.0)
    with serving(base, folder, splits=("help=writer,other",), feedback=scores) as client:
        assert client.get("/v1/experiments").json()["data"][0] == state


def test_labels_have_an_id_for_feedback_too(base: Base, folder: Path) -> None:
    (folder / "choose2.foreword").write_bytes((folder / "choose.foreword").read_bytes())
    with serving(base, folder, splits=("pick=choose,choose2,0.3",)) as client:
        answer = client.post("/v1/classify", json={"model": "pick", "input": "a"}).json()
        assert client.post("/v1/feedback", json={"id": answer["id"], "score": 0.5}).status_code == 200


def test_the_better_one_is_told_once_enough_came_back() -> None:
    experiments, rng = Experiments([Experiment("x", "old", "new")]), random.Random(1)
    for number in range(400):
        model = experiments.choose("x", str(number))
        experiments.feedback(str(number), float(rng.random() < (0.8 if model == "new" else 0.4)))
    state = experiments.all()[0].to_json()
    assert state["better"] == "new"
    assert state["low"] > 0


def test_a_user_always_meets_the_same_one() -> None:
    experiment = Experiment("x", "a", "b", 0.25)
    arms = {user: experiment.arm(user) for user in map(str, range(400))}
    assert all(experiment.arm(user) == arm for user, arm in arms.items())
    assert 60 < sum(arm == "b" for arm in arms.values()) < 140


def test_answers_are_forgotten_and_unknown_ones_refused() -> None:
    experiments = Experiments([Experiment("x", "a", "b")])
    assert experiments.choose("other", "1") == "other"
    with pytest.raises(UnknownAnswerError):
        experiments.feedback("1", 1.0)


@pytest.mark.parametrize("text", ["x", "x=a", "x=a,a", "x=a,b,2", "x=a,b,c", "base=a,b", "x=a,b,0.5,1"])
def test_a_split_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse(text)


def test_splits_name_forewords_that_are_there(base: Base, folder: Path) -> None:
    from foreword.serve.engine.library import UnknownModelError

    with pytest.raises(UnknownModelError), serving(base, folder, splits=("x=writer,nobody",)):
        pass
    with pytest.raises(SettingsError, match="name of a file"), serving(base, folder, splits=("text=writer,other",)):
        pass
