"""Files that come and go while others are answered, and who may ask for what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from foreword.core.base.load import Base
from foreword.core.inject.value import Foreword
from foreword.errors import SettingsError
from foreword.serve.app.keys import Key, KeyRing, hashed, new_key, read_keys
from foreword.serve.app.settings import ServeSettings
from tests.serve.conftest import WRITE, prefix, serving, store, tiny_base
from tests.serve.test_app import ask


def names(client: Any) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def eventually(holds: Any) -> None:
    """Wait, 10 seconds at most, until the watched folder was looked at."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to be")


def test_a_watched_folder_adds_and_removes_forewords(base: Base, folder: Path) -> None:
    with serving(base, folder) as client:
        late = store(folder, "late", base, prefix(base, 9), WRITE)
        eventually(lambda: "late" in names(client))
        first = ask(client, "late", max_tokens=4)
        assert first.status_code == 200
        store(folder, "late", base, Foreword(text="Other words.\n"), WRITE, notes="changed")
        eventually(lambda: client.get("/v1/models/late").json()["virtual_tokens"] == 0)
        assert ask(client, "late", max_tokens=4).json()["usage"] != first.json()["usage"]
        late.unlink()
        eventually(lambda: "late" not in names(client))
        assert ask(client, "late").status_code == 404
        assert ask(client, "writer", max_tokens=2).status_code == 200


def test_a_broken_file_is_refused_with_its_reason_and_others_are_served(base: Base, folder: Path) -> None:
    whole = (folder / "writer.foreword").read_bytes()
    (folder / "cut.foreword").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[-3] ^= 255
    (folder / "flipped.foreword").write_bytes(bytes(flipped))
    (folder / "no name.foreword").write_bytes(whole)
    other = tiny_base("gpt2")
    store(folder, "foreign", other, prefix(other), WRITE)
    with serving(base, folder) as client:
        assert not {"cut", "foreign", "no name"} & set(names(client))
        answer = ask(client, "foreign")
        assert answer.status_code == 404
        assert "another base" in answer.json()["error"]["message"]
        # Only loading compares the values with their digest.
        assert ask(client, "flipped").status_code == 400
        assert "flipped" not in names(client)
        assert ask(client, "writer", max_tokens=2).status_code == 200


def test_a_file_that_was_named_must_be_right(base: Base, tmp_path: Path) -> None:
    other = tiny_base("gpt2")
    file = store(tmp_path, "foreign", other, prefix(other), WRITE)
    from foreword.errors import BaseMismatchError

    with pytest.raises(BaseMismatchError, match="config"), serving(base, file):
        pass


def test_forewords_are_posted_and_deleted(base: Base, folder: Path) -> None:
    data = (folder / "writer.foreword").read_bytes()
    with serving(base, folder) as client:
        made = client.post("/v1/forewords", params={"name": "posted"}, content=data)
        assert (made.status_code, made.json()["id"]) == (201, "posted")
        assert ask(client, "posted", max_tokens=4).json()["choices"] == ask(client, max_tokens=4).json()["choices"]
        for name in ("../up", "base", "a/b", "", "x" * 129):
            assert client.post("/v1/forewords", params={"name": name}, content=data).status_code == 400
        assert client.post("/v1/forewords", params={"name": "bad"}, content=data[:99]).status_code == 400
        assert client.delete("/v1/forewords/posted").json()["deleted"] is True
        assert client.delete("/v1/forewords/posted").status_code == 404
        assert ask(client, "posted").status_code == 404
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.foreword" for name in ("choose", "other", "text", "writer")
    ]


def test_only_so_many_forewords_stay_in_memory(base: Base, folder: Path) -> None:
    with serving(base, folder, foreword_bytes=1) as client:
        library = client.app.state.service.library
        answers = [ask(client, name, max_tokens=4).json()["choices"] for name in ("writer", "other", "writer")]
        assert library.loaded() == ["writer"]
        assert answers[0] == answers[2]


def test_forewords_are_loaded_when_they_are_asked_for(base: Base, folder: Path) -> None:
    with serving(base, folder) as client:
        library = client.app.state.service.library
        assert library.loaded() == []
        for name in ("writer", "other", "writer"):
            ask(client, name, max_tokens=2)
        assert library.loaded() == ["other", "writer"]


def test_a_fully_tuned_model_is_refused_with_what_to_do(base: Base, tmp_path: Path) -> None:
    weights = {"model.norm.weight": base.model.get_parameter("model.norm.weight").detach().clone()}
    file = store(tmp_path, "full", base, Foreword(weights=weights), WRITE)
    with serving(base, file) as client:
        answer = ask(client, "full")
        assert answer.status_code == 400
        assert "train it as LoRA" in answer.json()["error"]["message"]


def test_a_key_is_shown_once_and_stored_as_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    secret = new_key(path, "me", admin=True)
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keys(path) == [Key("me", hashed(secret), True)]
    with pytest.raises(SettingsError):
        new_key(path, "me")
    path.write_text("{}\n")
    with pytest.raises(SettingsError, match="is no key"):
        read_keys(path)


def test_an_address_that_others_reach_needs_keys() -> None:
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org"):
        with pytest.raises(SettingsError, match="needs keys"):
            ServeSettings(host=host)
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        assert ServeSettings(host=host).keys is None


def test_keys_open_the_server_and_admin_keys_change_it(base: Base, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    plain, admin = new_key(path, "plain"), new_key(path, "chief", admin=True)
    with serving(base, folder, keys=path) as client:
        assert client.get("/healthz").status_code == 200
        for header in (None, "Bearer wrong", f"Basic {plain}", f"Bearer {hashed(plain)}"):
            headers = {} if header is None else {"Authorization": header}
            answer = client.get("/v1/models", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/metrics").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {plain}"}).status_code == 200
        for secret, status in ((plain, 403), (admin, 200)):
            answer = client.delete("/v1/forewords/other", headers={"Authorization": f"Bearer {secret}"})
            assert answer.status_code == status


def test_a_key_may_ask_so_often_a_minute() -> None:
    now = [0.0]
    ring = KeyRing([Key("a", hashed("x")), Key("b", hashed("y"))], 2, lambda: now[0])
    first, second = ring.find("Bearer x"), ring.find("bearer y")
    assert first is not None
    assert second is not None
    assert [ring.wait(first) for _ in range(3)] == [0, 0, pytest.approx(30)]
    assert ring.wait(second) == 0
    now[0] = 30.0
    assert ring.wait(first) == 0
