"""``foreword export ... --verify``: the golden rows on the real engine, beside our own greedy tokens.

The engine is asked by a small program of ``engines``, run with a Python that has it; llama.cpp also by its server, when
``llama-server`` is on the PATH. What is started listens on 127.0.0.1 and is ended again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from foreword.core.inject.injection import injected
from foreword.errors import DataError, ForewordError, SettingsError
from foreword.export.base import ExportFormat, Exporting, part_of
from foreword.export.engines.llamacpp_client import LlamaServer, PrefixNotUsed

TOKENS = 8
_SECONDS = 1800


@dataclass(frozen=True)
class Replay:
    """How far an engine's greedy tokens are ours.

    Attributes:
        engine: its name and version.
        rows: golden rows that were asked.
        tokens: tokens of each.
        equal: rows all of whose tokens are ours.
        first_equal: rows whose first token is.
        different: indices of the rows that differ.
    """

    engine: str
    rows: int
    tokens: int
    equal: int
    first_equal: int
    different: list[int]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.equal} of {self.rows} golden rows agree on {self.engine}, {self.tokens} greedy tokens each"
        return text if self.equal == self.rows else f"{text}; the first token of {self.first_equal}"


def replay(chosen: ExportFormat, exporting: Exporting, python: str | None = None) -> Replay:
    """Ask the engine the golden rows.

    Args:
        chosen: the format, whose files are in ``exporting.folder``.
        python: a Python that has the engine; None: this one.

    Raises:
        DataError: the file has no golden rows.
        SettingsError: the engine is not installed; says what to install.
        ForewordError: it failed.
    """
    rows = [list(row.input_ids) for row in exporting.manifest.golden]
    if not rows:
        raise DataError("the file has no golden rows to replay", where=exporting.name)
    ask = engine_of(chosen, exporting, python)
    engine, answers = ask(rows)
    expected = greedy(exporting, rows)
    ends = _ends(exporting.base.model)
    pairs = [(_until_end(a, ends), _until_end(b, ends)) for a, b in zip(expected, answers, strict=True)]
    return Replay(
        engine, len(rows), TOKENS, sum(a == b for a, b in pairs), sum(a[:1] == b[:1] for a, b in pairs),
        [index for index, (a, b) in enumerate(pairs) if a != b],
    )  # fmt: skip


Ask = Callable[[list[list[int]]], tuple[str, list[list[int]]]]


def engine_of(chosen: ExportFormat, exporting: Exporting, python: str | None) -> Ask:
    """What asks the engine; looked for before anything is written."""
    if not chosen.runner or exporting.base.kind != "decoder":
        raise SettingsError(f"{chosen.title} cannot be asked from here", where="--verify", received=exporting.base.kind)
    interpreter = python or sys.executable
    if _has(interpreter, chosen.module):
        return lambda rows: _by_runner(chosen, exporting, interpreter, rows)
    server = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if chosen.name == "llamacpp" and server and part_of(exporting.value) in ("prefix", "lora"):
        return lambda rows: _by_llama_server(exporting, server, rows)
    raise SettingsError(
        f"{chosen.title} is not installed here",
        where="--verify",
        expected=f"a Python that imports {chosen.module}",
        received=interpreter,
        hint=f"install {chosen.package}, or name a Python that has it with --engine-python",
    )


def _has(python: str, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError as problem:
        raise SettingsError("this Python cannot be run", where="--engine-python", received=python) from problem


def _by_runner(
    chosen: ExportFormat, exporting: Exporting, python: str, rows: list[list[int]]
) -> tuple[str, list[list[int]]]:
    script = Path(__file__).parent / "engines" / chosen.runner
    job = {**chosen.job(exporting), "rows": rows, "tokens": TOKENS}
    code, stdout, stderr = _run([python, str(script)], json.dumps(job))
    try:
        if code:
            raise ValueError(f"it ended with {code}")
        answer = json.loads(stdout)
        return str(answer["engine"]), [[int(token) for token in row] for row in answer["tokens"]]
    except (ValueError, KeyError, TypeError) as problem:
        last = "\n".join(stderr.strip().splitlines()[-8:])
        raise ForewordError(f"{chosen.title} failed: {problem}", where="--verify", received=last or None) from problem


def _run(command: list[str], text: str) -> tuple[int, str, str]:
    """A program's exit code and output; what it started ends with it, also where it takes too long."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            stdout, stderr = process.communicate(text, _SECONDS)
        except subprocess.TimeoutExpired as problem:
            raise ForewordError(f"no answer within {_SECONDS} seconds", where="--verify") from problem
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
    return process.returncode, stdout, stderr


def _by_llama_server(exporting: Exporting, server: str, rows: list[list[int]]) -> tuple[str, list[list[int]]]:
    request = json.loads((exporting.folder / "request.json").read_text("utf-8"))
    length, options = exporting.value.num_virtual_tokens, {"n_predict": TOKENS, "top_k": 1}
    with _running(exporting.folder, server) as url:
        client = LlamaServer(url)
        if part_of(exporting.value) == "lora":
            return "llama-server", [client.complete(row, **options)["tokens"] for row in rows]
        front = request["ids"][:length]
        for version in (4, 3):
            state = f"{exporting.name}.v{version}.bin"
            try:
                answers = [client.ask(state, front, row, **options)["tokens"] for row in rows]
            except PrefixNotUsed as problem:
                refused = problem
                continue
            return f"llama-server (state version {version})", answers
    raise ForewordError("llama-server did not use the prefix", where="--verify", received=str(refused)) from refused


@contextmanager
def _running(folder: Path, server: str) -> Iterator[str]:
    """The launch script of an export, on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "LLAMA_SERVER": server, "PORT": str(port)}
    process = subprocess.Popen(
        ["sh", str(folder / "serve.sh")], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise ForewordError("llama-server ended at its start", where="--verify", received=process.returncode)
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise ForewordError("llama-server did not answer within five minutes", where="--verify")


def greedy(exporting: Exporting, rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Our own greedy tokens, row by row, up to the end of the text."""
    model: Any = exporting.base.model
    out = []
    with injected(model, [exporting.value]), torch.no_grad():
        for ids in rows:
            row = torch.tensor([list(ids)], device=model.device)
            full: Any = model.generate(row, attention_mask=torch.ones_like(row), max_new_tokens=TOKENS, do_sample=False)
            out.append(full[0, len(ids) :].tolist())
    return out


def _until_end(tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """Tokens up to the end of the text, behind which some engines do not go on."""
    return list(takewhile(lambda token: token not in ends, tokens))


def _ends(model: Any) -> set[int]:
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = model.config.get_text_config().eos_token_id if ids is None else ids
    return set(ids) if isinstance(ids, list) else {ids}
