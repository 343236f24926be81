"""``processes: N``: one run in several processes of this machine, or of those that ``torchrun`` has started.

The batch of a step is that of the settings, shared out, so the run is the one of a single process up to rounding. Every
process but the first works on a folder of its own that is thrown away; the run's folder is written by the first alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch.distributed

from foreword.core.base.device import pick_device
from foreword.errors import ForewordError, SettingsError
from foreword.settings.schema import SCRATCH, TrainRequest
from foreword.training import distributed

# What of a run's folder the other processes need to go on with it.
_NEEDED = ("run.json", "trials")
_MEETING = "FOREWORD_RENDEZVOUS"
_WORKER = [sys.executable, "-m", "foreword.runs.workers.rank_process"]


@contextmanager
def launched(request: TrainRequest) -> Iterator[TrainRequest]:
    """The request as this process carries it out, with the others at work inside the block.

    Raises:
        SettingsError: data or a base in memory, which other processes cannot see, or a base from scratch.
        ForewordError: another process has failed; says in what.
    """
    settings = request.settings
    started = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed.size() > 1 or not (started or settings.processes > 1):
        yield request
        return
    _shareable(request)
    if started:
        place = os.environ.get(_MEETING)
        meeting = None if place is None else Path(place)
        with _member(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), request, meeting) as own:
            yield own
        return
    with tempfile.TemporaryDirectory(prefix="foreword-") as folder:
        meeting = Path(folder) / "meeting"
        with (
            _workers(request, settings.processes, meeting) as failure,
            _explained(failure),
            _member(0, settings.processes, request, meeting) as own,
        ):
            yield own


def _shareable(request: TrainRequest) -> None:
    for name in ("data", "dev", "test", "base"):
        value = getattr(request, name)
        if value is not None and not isinstance(value, str | Path):
            raise SettingsError(
                "several processes cannot share what is in the memory of one",
                where=name,
                expected="a file or folder",
                received=type(value).__name__,
                hint="write it to a file, or set processes=1",
            )
    if request.base in SCRATCH:
        raise SettingsError(
            "a base from scratch is trained by one process",
            where="--base",
            received=request.base,
            hint="make it first with `foreword base`, then give its folder",
        )


@contextmanager
def _member(rank: int, size: int, request: TrainRequest, meeting: Path | None = None) -> Iterator[TrainRequest]:
    """Be process ``rank`` of ``size``."""
    device = pick_device(request.settings.device)
    if str(device) == "cuda":
        # Its own for "cuda" without a number, from here on.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    threads = torch.get_num_threads()
    if not request.settings.num_threads:
        torch.set_num_threads(max(1, threads // size))
    _stay_local(meeting is not None)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method="env://" if meeting is None else meeting.as_uri(),
        rank=rank,
        world_size=size,
        timeout=timedelta(hours=2),
    )
    try:
        with _folder(rank, request) as folder:
            yield replace(request, output_dir=folder, progress=request.progress if rank == 0 else None)
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def _stay_local(local: bool) -> None:
    """Processes of one machine meet on its loopback interface: nothing is opened to the network."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if local and names:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", names[0])


@contextmanager
def _folder(rank: int, request: TrainRequest) -> Iterator[Path]:
    """The run's folder for process 0; for the others one of their own, with what they need to go on with the run."""
    own = Path(request.output_dir)
    files = distributed.told_by_first(_files(own) if rank == 0 and request.resume else {})
    if rank == 0:
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="foreword-") as scratch:
        folder = Path(scratch) / "run"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        yield folder


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for name in _NEEDED for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@contextmanager
def _workers(request: TrainRequest, size: int, meeting: Path) -> Iterator[list[str]]:
    """Processes 1 to ``size`` - 1; what one of them died of is in the list that this gives. None outlives the block."""
    task = json.dumps({"request": request.to_json(), "resume": request.resume})
    failure: list[str] = []
    workers = []
    for rank in range(1, size):
        environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        environment[_MEETING] = str(meeting)
        worker = subprocess.Popen(
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert worker.stdin is not None
        worker.stdin.write(task)
        worker.stdin.close()
        workers.append(worker)
    watchers = [threading.Thread(target=_watch, args=(one, failure), daemon=True) for one in workers]
    for watcher in watchers:
        watcher.start()
    try:
        yield failure
    finally:
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(10 if sys.exc_info()[0] is None else 1)
            if worker.poll() is None:
                worker.kill()
        for watcher in watchers:
            watcher.join(5)


def _watch(worker: subprocess.Popen[str], failure: list[str]) -> None:
    assert worker.stderr is not None
    with worker.stderr:
        said = worker.stderr.read().strip()
    if worker.wait():
        failure.append(said.splitlines()[-1] if said else f"exit code {worker.returncode}")


@contextmanager
def _explained(failure: list[str]) -> Iterator[None]:
    """When another process has died, what is seen here is a broken connection: say what it died of."""
    try:
        yield
    except ForewordError:
        raise
    except RuntimeError as problem:
        if not any(word in str(problem).lower() for word in ("gloo", "connection", "nccl", "peer")):
            raise
        # The connection breaks before the process has told why and is gone.
        for _ in range(100):
            if not failure:
                time.sleep(0.1)
        raise ForewordError(
            "another process of the run has failed",
            received=failure[0] if failure else str(problem).splitlines()[0],
            hint="the run's last checkpoint is kept: go on with `foreword train --resume`",
        ) from problem
