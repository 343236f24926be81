"""What a server writes down where it was asked to, what comes back to it, and forewords in the shadow of others."""

from __future__ import annotations

import queue
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from foreword.core.base.load import Base
from foreword.core.inject.value import EMPTY
from foreword.data.readers.read import read
from foreword.errors import DataError, SettingsError
from foreword.evaluation.predict import Asker
from foreword.serve.app.shadows import Shadows
from foreword.serve.engine.engine import Engine, EngineLimits
from foreword.serve.engine.jobs import WriteJob
from foreword.serve.engine.library import UnknownModelError
from foreword.serve.engine.sampling import Sampling
from foreword.serve.engine.served import served
from foreword.studies.feedback.corrections import read_corrections
from foreword.studies.feedback.request_log import RequestLog, corrected, is_request_log
from tests.serve.conftest import CHOOSE, serving
from tests.serve.test_app import ask
from tests.serve.test_engine import TASK, answer


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    file = sqlite3.connect(path)
    rows = file.execute("SELECT id, model, fields, output, score, correction FROM answers ORDER BY time").fetchall()
    file.close()
    return rows


def classify(client: TestClient, *texts: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/classify", json={"model": "choose", "input": [*texts]}).json()
    return answer


def test_nothing_is_written_down_unless_asked(base: Base, folder: Path) -> None:
    before = set(folder.rglob("*"))
    with serving(base, folder) as client:
        answer = ask(client, max_tokens=4).json()
        refused = client.post("/v1/feedback", json={"id": answer["id"], "correction": "x"})
    assert refused.status_code == 404
    assert set(folder.rglob("*")) == before


def test_answers_and_corrections_stand_in_the_log(base: Base, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    with serving(base, folder, request_log=path) as client:
        whole = ask(client, max_tokens=4).json()
        ask(client, max_tokens=4, stream=True)
        labels = classify(client, "one", "two")
        told = client.post("/v1/feedback", json={"id": labels["id"] + "-1", "correction": "yes"})
        assert told.json() == {"id": labels["id"] + "-1", "logged": True}
        assert client.post("/v1/feedback", json={"id": whole["id"], "score": 1}).json()["logged"]
        assert client.post("/v1/feedback", json={"id": "nobody", "score": 1}).status_code == 404
    rows = rows_of(path)
    assert [row[1] for row in rows] == ["writer", "writer", "choose", "choose"]
    text = whole["choices"][0]["message"]["content"]
    assert rows[0] == (whole["id"], "writer", '{"prompt": "hello"}', text, 1.0, None)
    assert rows[1][3] == text
    assert rows[3][5] == "yes"
    assert is_request_log(path)
    assert list(corrected(path, "label")) == [{"text": "two", "label": "yes"}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_corrections_in_the_log_are_rows_to_learn_from(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    log = RequestLog(path)
    log.add("a", "choose", {"text": "a film"}, "no")
    layout = read([{"text": "x", "label": "yes"}, {"text": "y", "label": "no"}]).layout
    with pytest.raises(DataError, match="has a correction"):
        read_corrections(path, CHOOSE, {}, layout)
    assert log.note("a", None, "yes")
    log.close()
    rows, without = read_corrections(path, CHOOSE, {}, layout)
    assert ([dict(row.fields) for row in rows], without) == ([{"text": "a film", "label": "yes"}], 0)


def test_what_is_old_is_gone_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "requests.db"
    log, now = RequestLog(path, days=2), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3 * 86400)
    log.add("old", "m", {"text": "a secret"}, "x")
    monkeypatch.undo()
    log.add("new", "m", {"text": "b"}, "y")
    log.close()
    assert b"a secret" in path.read_bytes()
    RequestLog(path, days=2).close()
    assert [row[0] for row in rows_of(path)] == ["new"]
    assert b"a secret" not in path.read_bytes()


def test_another_file_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,b\n" * 100)
    assert not is_request_log(path)
    with pytest.raises(SettingsError, match="no log of requests"):
        RequestLog(path)
    with pytest.raises(DataError, match="no log of requests"):
        list(corrected(path, "label"))
    assert path.read_text() == "text,label\na,b\n" * 100


def test_a_shadow_is_asked_and_compared_and_not_seen(base: Base, folder: Path) -> None:
    with serving(base, folder, shadows=("writer=other",)) as client:
        alone = ask(client, "writer", max_tokens=64).json()
        assert alone["model"] == "writer"
        for _ in range(200):
            [shadow] = client.get("/v1/experiments").json()["shadows"]
            if shadow["asked"]:
                break
            time.sleep(0.05)
        assert shadow == {"id": "writer", "shadow": "other", "asked": 1, "equal": 0}


@pytest.mark.parametrize("text", ["a", "a=a", "=b", "a="])
def test_a_shadow_names_two_forewords(text: str) -> None:
    with pytest.raises(SettingsError):
        Shadows([text], lambda name: None)


def test_a_shadow_that_is_not_there_ends_the_start(base: Base, folder: Path) -> None:
    with pytest.raises(UnknownModelError), serving(base, folder, shadows=("writer=nobody",)):
        pass


def test_answers_to_one_prompt_share_its_reading(base: Base, folder: Path) -> None:
    hot: dict[str, Any] = {"temperature": 1.2, "seed": 3, "max_tokens": 8, "n": 4}
    with serving(base, folder) as client:
        alone = [
            ask(client, **{**hot, "n": 1, "seed": 3 + number}).json()["choices"][0]["message"]["content"]
            for number in range(4)
        ]
        stats = client.app.state.service.engine.stats
        before = (stats.tokens_read, stats.tokens_shared)
        together = [choice["message"]["content"] for choice in ask(client, **hot).json()["choices"]]
        length = len("Q: hello\nA:")
        assert together == alone
        assert stats.tokens_read - before[0] == length + 3
        assert stats.tokens_shared - before[1] == 3 * (length - 1)


def test_a_row_whose_leader_goes_away_reads_for_itself(base: Base) -> None:
    with Engine(base, EngineLimits(rows=4, length=96, step_tokens=4)) as engine:
        one = engine.call(lambda: served("x", Asker(base.model, base.tokenizer, TASK, False), EMPTY, True)).result()
        ids = tuple(range(5, 45))
        events: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(3)]
        jobs = [WriteJob(one, ids, Sampling(5), each.put) for each in events]
        engine.submit(*jobs)
        jobs[0].cancel()
        assert answer(events[1])[0] == answer(events[2])[0]
