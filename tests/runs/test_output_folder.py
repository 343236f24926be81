"""A run's folder is never written over by accident, and never lost by a run that does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.errors import DataError, SettingsError
from foreword.runs.output_folder import claimed
from foreword.storage import LOCK


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.foreword").write_text("old")
    return folder


def test_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    with claimed(tmp_path / "new", empty=True) as folder:
        assert folder == tmp_path / "new"
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty", empty=True):
        pass


def test_an_occupied_folder_is_refused_with_the_two_ways_on(old_run: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)resume=True.*overwrite=True"), claimed(old_run, empty=True):
        pass
    assert (old_run / "model.foreword").read_text() == "old"


def test_overwrite_replaces_a_run(old_run: Path) -> None:
    with claimed(old_run, overwrite=True) as folder:
        assert [path.name for path in folder.iterdir()] == [LOCK]
        (folder / "model.foreword").write_text("new")
    assert (old_run / "model.foreword").read_text() == "new"
    assert [path.name for path in old_run.parent.iterdir()] == ["run"]


def test_a_refused_run_costs_nothing(old_run: Path) -> None:
    def refused() -> None:
        with claimed(old_run, overwrite=True):
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


def test_an_input_in_the_folder_is_not_removed(old_run: Path) -> None:
    (old_run / "rows.csv").write_text("text,label\n")
    given = [old_run / "rows.csv", None, {"in": "memory"}]
    with pytest.raises(SettingsError, match="an input"), claimed(old_run, overwrite=True, inputs=given):
        pass
    assert (old_run / "rows.csv").exists()


def test_what_the_run_did_not_write_stays(old_run: Path) -> None:
    (old_run / "notes.txt").write_text("mine")
    (old_run / "predictions").mkdir()
    with claimed(old_run, overwrite=True) as folder:
        (folder / "model.foreword").write_text("new")
    assert sorted(path.name for path in old_run.iterdir()) == ["model.foreword", "notes.txt"]


def test_a_run_set_aside_by_one_that_was_killed_comes_back(old_run: Path) -> None:
    old_run.rename(old_run.with_name(".run.replaced"))
    old_run.mkdir()
    (old_run / LOCK).write_text("{}")
    with pytest.raises(SettingsError, match="not empty"), claimed(old_run, empty=True):
        pass
    assert (old_run / "model.foreword").read_text() == "old"


def test_an_inner_claim_is_part_of_the_outer(old_run: Path) -> None:
    with claimed(old_run, overwrite=True) as folder:
        (folder / "run.json").write_text("{}")
        with claimed(old_run):
            assert (folder / "run.json").exists()
