"""What is written is there whole or not at all, never over an input, and by one process at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from foreword.errors import ForewordError, ResourceError, SettingsError
from foreword.storage import LOCK, explained, locked, protecting, refuse_overwriting, write_atomically


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ResourceError, match=r"(?s)no space is left.*bytes free.*resume=True"):
        write_atomically(path, pieces())
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_known_whoever_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="no space"), explained(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(ForewordError, match="Permission denied"), explained(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(ZeroDivisionError), explained(tmp_path):
        raise ZeroDivisionError


def test_a_link_is_followed_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", b"through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"through"
    write_atomically("/dev/null", b"gone")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("way", ["path", "link", "hard link", "case", "in a folder", "dots"])
def test_an_output_is_no_input(tmp_path: Path, way: str) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text\na\n")
    (tmp_path / "link").symlink_to(data)
    os.link(data, tmp_path / "hard")
    outputs = {
        "path": data, "link": tmp_path / "link", "hard link": tmp_path / "hard", "case": tmp_path / "Rows.CSV",
        "in a folder": data, "dots": tmp_path / "x" / ".." / "rows.csv",
    }  # fmt: skip
    given = tmp_path if way == "in a folder" else data
    with pytest.raises(SettingsError, match="over an input"):
        refuse_overwriting(outputs[way], [given])
    refuse_overwriting(tmp_path / "answers.csv", [given, None, 3, "some/hub-id"])


def test_what_is_protected_is_not_written_over(tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_bytes(b"text\n")
    with protecting([str(data), "--flag", None, "a\0b"]):
        with pytest.raises(SettingsError, match="over an input"):
            write_atomically(data, b"gone")
        write_atomically(tmp_path / "other", b"fine")
    assert data.read_bytes() == b"text\n"


def test_one_process_at_a_time_and_a_dead_one_locks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys, time\nfrom foreword.storage import locked\n"
        "with locked(sys.argv[1]):\n print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        at_work = f"(?s)another process is at work.*process {other.pid} on "
        with pytest.raises(SettingsError, match=at_work), locked(folder):
            pass
        assert json.loads((folder / LOCK).read_text())["pid"] == other.pid
        other.kill()
    assert (folder / LOCK).exists()
    with locked(folder), locked(folder):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert not (folder / LOCK).exists()


def test_another_thread_is_another_worker(tmp_path: Path) -> None:
    refused: list[str] = []

    def work() -> None:
        try:
            with locked(tmp_path):
                pass
        except SettingsError as problem:
            refused.append(problem.problem)

    with locked(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert refused == ["another process is at work in this folder"]


def test_a_folder_in_which_nothing_was_written_is_gone_again(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
