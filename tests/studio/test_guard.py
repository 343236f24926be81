"""What no page of the studio sends is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from foreword.errors import SettingsError
from foreword.studio.password import set_password
from foreword.studio.settings import StudioSettings
from foreword.studio.studio_app import studio_app
from tests.studio.conftest import ADDRESS, Browser

ROWS = "text,label\n" + "".join(f"number {i} {word},{word}\n" for i in range(20) for word in ("yes", "no"))


def test_every_answer_forbids_scripts_and_frames_of_others(browser: Browser) -> None:
    for path in ("/data", "/runs", "/no-such-page", "/static/studio.js"):
        headers = browser.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_pages_have_no_inline_script_or_style_and_fetch_nothing_from_elsewhere(browser: Browser, run: Path) -> None:
    name = browser.upload("rows.csv", ROWS)
    for path in ("/data", f"/data/{name}", "/train", "/runs", "/runs/first"):
        text = browser.get(path).text
        assert " style=" not in text
        assert " onclick" not in text
        assert "<script>" not in text
        assert "https://" not in text


def test_a_form_without_the_sessions_token_is_refused(browser: Browser) -> None:
    browser.get("/data")
    answer = browser.client.post("/data", data={"csrf": "0" * 40}, files={"file": ("rows.csv", ROWS.encode())})
    assert answer.status_code == 403
    assert "another session" in answer.text


def test_a_request_from_another_site_or_under_another_name_is_refused(browser: Browser) -> None:
    token = browser.token()
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert browser.client.post("/bin/empty", data={"csrf": token}, headers=headers).status_code == 403
    assert browser.get("/data", headers={"Host": "evil.example"}).status_code == 421


def test_a_body_that_is_too_long_or_of_unknown_length_is_refused(workspace: Path) -> None:
    app = studio_app(StudioSettings(workspace, upload_bytes=1 << 20))
    with TestClient(app, base_url=ADDRESS) as client:
        assert client.post("/data", content=b"x" * ((1 << 20) + 1)).status_code == 413
        assert client.post("/data", content=iter([b"x"])).status_code == 411


def test_an_address_that_others_reach_needs_a_password(workspace: Path) -> None:
    with pytest.raises(SettingsError, match="needs a password"):
        StudioSettings(workspace, host="0.0.0.0")
    with pytest.raises(SettingsError, match="too short"):
        set_password(workspace, "short")
    set_password(workspace, "a long secret")
    assert "a long secret" not in (workspace / "password").read_text()
    with TestClient(studio_app(StudioSettings(workspace, host="0.0.0.0")), base_url="http://studio.example") as client:
        browser = Browser(client)
        assert browser.get("/data", follow_redirects=False).headers["location"] == "/login"
        wrong = browser.post("/login", {"password": "a wrong guess"})
        assert wrong.status_code == 403
        assert browser.get("/runs", follow_redirects=False).status_code == 303
        browser.post("/login", {"password": "a long secret"})
        assert browser.get("/runs", follow_redirects=False).status_code == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", ".hidden", "no-such"])
def test_a_name_is_never_a_path(browser: Browser, name: str) -> None:
    for path in (f"/data/{name}", f"/runs/{name}", f"/runs/{name}/events"):
        assert browser.get(path).status_code in (404, 200)
        assert "root:" not in browser.get(path).text
    assert browser.get(f"/runs/{name}").status_code == 404 or name in ("..", "%2e%2e")


def test_only_files_that_a_run_writes_are_given_out(browser: Browser, run: Path) -> None:
    assert browser.get("/runs/first/files/model.foreword").content == (run / "run" / "model.foreword").read_bytes()
    for name in ("run.json", "..%2fcommand.json", "trainer_log.jsonl"):
        assert browser.get(f"/runs/first/files/{name}").status_code == 404


@pytest.mark.parametrize("base", ["../secret", "/etc", "a/../b", "./x", "~/x", "C:\\x"])
def test_a_base_is_picked_by_its_name_and_never_by_a_path(browser: Browser, base: str) -> None:
    name = browser.upload("rows.csv", ROWS)
    answer = browser.post("/runs", {"data": name, "base": base})
    assert answer.status_code == 422
    assert "there is no such base" in answer.text
