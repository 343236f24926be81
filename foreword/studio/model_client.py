"""The studio's side of a model process: one base at a time, started when it is first asked, ended with the studio."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from foreword.errors import ForewordError
from foreword.studio.processes import module_path

_SECONDS = 180.0


class ModelClient:
    """Asks a model process; requests of several threads go through it one by one, the newest first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._key = ""
        self._lock = threading.Lock()
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._number = 0
        self.opened: dict[str, Any] = {}

    def state(self, settings: Mapping[str, Any]) -> str:
        """``off``, ``loading``, ``ready`` or ``failed``, of the process for these settings."""
        with self._lock:
            if self._key != _key(settings) or self._process is None:
                return "off"
            if "problem" in self.opened:
                return "failed"
            if self._process.poll() is not None:
                return "off"
            return "ready" if self.opened else "loading"

    def open(self, settings: Mapping[str, Any]) -> None:
        """Start the process for some data and a base; another one that runs is ended first."""
        with self._lock:
            if self._key == _key(settings) and self._process is not None and self._process.poll() is None:
                return
            self._end()
            self._key, self.opened, self._answers = _key(settings), {}, {}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "foreword.studio.model_process", json.dumps(settings)], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "FOREWORD_LANG": "en", "PYTHONPATH": module_path()},
            )  # fmt: skip
            assert self._process.stdout is not None
            threading.Thread(target=self._read, args=(self._process.stdout, self._answers), daemon=True).start()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; ``{"cancelled": True}`` where a newer one came.

        Raises:
            ForewordError: the process is not there, or does not answer.
        """
        with self._lock:
            process = self._process
            if process is None or process.stdin is None or process.poll() is not None:
                raise ForewordError("the base is not loaded", hint="load it first")
            self._number += 1
            number = self._number
            answer = self._answers[number] = queue.Queue()
            answers = self._answers
            process.stdin.write(json.dumps({**request, "id": number}) + "\n")
            process.stdin.flush()
        try:
            return answer.get(timeout=_SECONDS)
        except queue.Empty as error:
            raise ForewordError("the base does not answer") from error
        finally:
            answers.pop(number, None)

    def _read(self, lines: IO[str], answers: dict[int, queue.Queue[dict[str, Any]]]) -> None:
        for line in lines:
            value = json.loads(line)
            number = value.pop("id")
            if number == 0:
                self.opened = value
            elif number in answers:
                answers[number].put(value)
        for waiting in list(answers.values()):
            waiting.put({"cancelled": True})

    def _end(self) -> None:
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _key(settings: Mapping[str, Any]) -> str:
    """The same for settings that need no other process."""
    return json.dumps(settings, sort_keys=True)
