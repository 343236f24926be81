"""A run's folder is never written over by accident, and never lost by a run that does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.cli.output_dir import claimed
from foreword.errors import DataError, SettingsError


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.foreword").write_text("old")
    return folder


def test_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    with claimed(tmp_path / "new", overwrite=False) as folder:
        assert folder == tmp_path / "new"
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty", overwrite=False):
        pass


def test_an_occupied_folder_is_refused_with_the_two_ways_on(old_run: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)--resume .*--overwrite"), claimed(old_run, overwrite=False):
        pass
    assert (old_run / "model.foreword").read_text() == "old"


def test_overwrite_replaces_a_run(old_run: Path) -> None:
    with claimed(old_run, overwrite=True) as folder:
        assert not folder.exists()
        folder.mkdir()
        (folder / "model.foreword").write_text("new")
    assert (old_run / "model.foreword").read_text() == "new"
    assert [path.name for path in old_run.parent.iterdir()] == ["run"]


def test_a_refused_run_costs_nothing(old_run: Path) -> None:
    def refused() -> None:
        with claimed(old_run, overwrite=True) as folder:
            folder.mkdir()
            raise DataError("bad rows")

    with pytest.raises(DataError):
        refused()
    assert (old_run / "model.foreword").read_text() == "old"
    assert [path.name for path in old_run.parent.iterdir()] == ["run"]


def test_overwrite_removes_nothing_that_is_not_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="earlier run only"), claimed(tmp_path, overwrite=True):
        pass
    (tmp_path / "report.json").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="earlier run only"), claimed(".", overwrite=True):
        pass
    with pytest.raises(SettingsError), claimed(tmp_path / "thesis.tex", overwrite=True):
        pass
    assert (tmp_path / "thesis.tex").exists()
