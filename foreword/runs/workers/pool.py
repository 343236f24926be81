"""Many runs at once: a run is the unit, the same call in a process of this machine and on machines of a Ray cluster.

A run lives in its folder, which every worker has to see: a cluster of several machines needs a shared file system.
A worker that dies costs what was done since the last checkpoint: the run is handed out again and goes on from there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from foreword.core.base.load import Base
from foreword.data.row import Row
from foreword.errors import ForewordError, SettingsError
from foreword.evaluation.prediction_files import Predictions, refuse_format, write_predictions
from foreword.evaluation.predictions import Prediction, read_jsonl
from foreword.messages import Message
from foreword.runs.prepare.prepare import say_nothing
from foreword.runs.use.use import rows_of_file
from foreword.runs.workers.worker import STATE, perform
from foreword.settings.schema import ProgressCall, TrainRequest
from foreword.storage import refuse_overwriting

Task = Mapping[str, Any]
Perform = Callable[[Task], dict[str, Any]]


@dataclass(frozen=True)
class Workers:
    """Who carries out runs.

    Args:
        count: runs at a time.
        ray: address of a Ray cluster, ``"local"`` for one on this machine; None: processes of this machine.
        retries: how often a run is handed out again after its worker died.

    >>> from foreword.api import Workers
    >>> Workers(4)
    Workers(count=4, ray=None, retries=2)
    """

    count: int = 2
    ray: str | None = None
    retries: int = 2


class _Pool(Protocol):
    def hand_out(self, task: Task) -> Future[dict[str, Any]]: ...


def run_all(
    requests: Sequence[TrainRequest], workers: Workers, progress: ProgressCall | None = None
) -> list[dict[str, Any]]:
    """Carry out every run; their folders hold what they came to.

    Args:
        requests: each with a folder of its own; data and base are files.

    Raises:
        SettingsError: data in memory, two runs in one folder, or Ray is asked for and not there.
        ForewordError: a run failed; says which and why. The others were finished first.
    """
    tasks = [{"train": _told(request).to_json()} for request in requests]
    folders = [Path(request.output_dir) for request in requests]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise SettingsError("two runs have the same folder", where="output_dir", received=", ".join(map(str, folders)))
    answers = do_all(tasks, workers, progress, folders)
    for folder in folders:
        (folder / STATE).unlink(missing_ok=True)
    return answers


def do_all(
    tasks: Sequence[Task],
    workers: Workers,
    progress: ProgressCall | None = None,
    folders: Sequence[Path] = (),
    by: Perform = perform,
) -> list[dict[str, Any]]:
    """Carry out every task, ``workers.count`` at a time, in their order.

    Args:
        folders: where each works; its state is read there.
        by: what carries a task out, in a module that can be started (:mod:`foreword.runs.workers.worker`).

    Raises:
        ForewordError: a task failed; the others were finished first.
    """
    report = progress or say_nothing
    with _pool(workers, by) as pool:
        futures = [pool.hand_out(task) for task in tasks]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            report("runs", len(tasks) - len(waiting), len(tasks), **(_worker_states(folders) if not done else {}))
        answers = [future.result() for future in futures]
    failed = [(i, answer["error"]) for i, answer in enumerate(answers) if answer["error"]]
    if failed:
        which = [str(folders[i]) if folders else f"part {i + 1}" for i, _ in failed]
        raise ForewordError(
            Message("{n} of {a} runs failed", n=len(failed), a=len(tasks)),
            where=", ".join(which),
            received=str(failed[0][1]).splitlines()[0],
            hint="mend it and give the same command again: what is finished is kept",
        )
    return answers


def predict_all(
    file: str | Path,
    data: str | Path,
    output: str | Path,
    workers: Workers,
    *,
    base: str | None = None,
    skip_bad: bool = False,
    progress: ProgressCall | None = None,
    **decoding: Any,
) -> int:
    """:func:`foreword.predict` with the rows shared out; ``output`` is that of one process. Returns the rows.

    Raises:
        ForewordError: a part failed; nothing is written then.
    """
    refuse_overwriting(output, (file, data, base))
    refuse_format(output)
    rows = rows_of_file(file, data, skip_bad).rows
    with tempfile.TemporaryDirectory(prefix=".parts-", dir=Path(output).resolve().parent) as folder:
        parts = [Path(folder) / f"{i}.jsonl" for i in range(workers.count)]
        common = {"file": str(file), "data": str(data), "base": base, "skip_bad": skip_bad, **decoding}
        tasks = [{"predict": {**common, "output": str(part), "part": (i, len(parts))}} for i, part in enumerate(parts)]
        do_all(tasks, workers, progress)
        answers = [answer for i, part in enumerate(parts) for answer in _placed(rows, read_jsonl(part), i, len(parts))]
    answers.sort(key=lambda answer: answer[0])
    found = Predictions([prediction for _, prediction in answers], [rows[number].fields for number, _ in answers])
    write_predictions(output, found)
    return len(found)


def _placed(
    rows: Sequence[Row], found: Iterable[Prediction], part: int, parts: int
) -> Iterator[tuple[int, Prediction]]:
    """Which row each prediction of a part is of: every n-th in their order, without those that were skipped."""
    numbers = iter(range(part, len(rows), parts))
    for prediction in found:
        for number in numbers:
            if prediction.id in (rows[number].id, str(rows[number].fields.get("id"))):
                yield number, prediction
                break


def refuse_memory(request: TrainRequest) -> None:
    """Raises SettingsError where the request's data are no files."""
    for name in ("data", "dev", "test"):
        value = getattr(request, name)
        if value is not None and not isinstance(value, str | Path):
            raise SettingsError(
                "workers cannot see data in the memory of this process",
                where=name,
                expected="a file",
                received=type(value).__name__,
            )


def _told(request: TrainRequest) -> TrainRequest:
    """The request as another process can take it."""
    refuse_memory(request)
    return replace(request, base=request.base.id if isinstance(request.base, Base) else request.base)


def _worker_states(folders: Sequence[Path]) -> dict[str, object]:
    """Where the runs are, by the files that their workers write."""
    found: dict[str, object] = {}
    alike = len({folder.name for folder in folders}) < len(folders)
    for folder in folders:
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            name = f"{folder.parent.name}/{folder.name}" if alike else folder.name
            found[name] = f"{state['at'].rpartition(': ')[2]} {state['done']}/{state['total']}"
        except (OSError, ValueError, KeyError):
            continue
    return found


@contextmanager
def _pool(workers: Workers, by: Perform) -> Iterator[_Pool]:
    with ThreadPoolExecutor(workers.count) as threads:
        if workers.ray is None:
            pool = _Processes(threads, workers.retries, by.__module__)
            try:
                yield pool
            except BaseException:
                pool.stop()
                raise
            return
        with _cluster(workers) as ray:
            yield _Ray(threads, ray, workers.retries, by)


@dataclass(frozen=True)
class _Processes:
    """Processes of this machine, each with its share of the cores."""

    threads: ThreadPoolExecutor
    retries: int
    module: str
    stopped: Event = field(default_factory=Event)
    alive: set[subprocess.Popen[str]] = field(default_factory=set)

    def hand_out(self, task: Task) -> Future[dict[str, Any]]:
        return self.threads.submit(self._carry_out, task)

    def stop(self) -> None:
        """Let the processes save their states and end; nothing more is handed out."""
        self.stopped.set()
        self.threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self.alive):
            process.send_signal(signal.SIGINT)

    def _carry_out(self, task: Task) -> dict[str, Any]:
        code: int | None = None
        for _ in range(1 + self.retries):
            if self.stopped.is_set():
                break
            code, said, complained = self._process(task)
            if code == 0:
                answer: dict[str, Any] = json.loads(said.splitlines()[-1])
                return answer
            if code > 0 and code != 137:  # an error of its own, which would come again
                return {"error": complained.strip().splitlines()[-1] if complained.strip() else f"exit code {code}"}
        return {"error": f"its process was killed {1 + self.retries} times (exit code {code})"}

    def _process(self, task: Task) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one try.

        In a session of its own: Ctrl-C is for this process, which passes it on.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.alive.add(process)
        try:
            said, complained = process.communicate(json.dumps(task))
        finally:
            self.alive.discard(process)
        return process.returncode, said, complained


@dataclass(frozen=True)
class _Ray:
    """The workers of a Ray cluster; Ray hands a task out again when its worker dies."""

    threads: ThreadPoolExecutor
    ray: Any
    retries: int
    by: Perform

    def hand_out(self, task: Task) -> Future[dict[str, Any]]:
        reference = self.ray.remote(self.by).options(max_retries=self.retries, num_cpus=1).remote(dict(task))
        return self.threads.submit(self._wait, reference)

    def _wait(self, reference: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self.ray.get(reference)
        except self.ray.exceptions.RayError as problem:
            return {"error": f"its worker died {1 + self.retries} times: {str(problem).splitlines()[0]}"}
        return answer


@contextmanager
def _cluster(workers: Workers) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here ends with the block. No usage statistics, no dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise SettingsError(
            "Ray is not installed", where="--ray", hint="pip install 'foreword[ray]', or leave --ray out"
        ) from None
    how: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if workers.ray == "local":
        how |= {"num_cpus": workers.count, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        how["address"] = workers.ray
    began = not ray.is_initialized()
    if began:
        ray.init(**how)
    try:
        yield ray
    finally:
        if began:
            ray.shutdown()
