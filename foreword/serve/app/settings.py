"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from foreword.errors import SettingsError
from foreword.serve.app.addresses import is_loopback
from foreword.serve.engine.engine import EngineLimits

PORT = 8265


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a server.

    Args:
        files: ``.foreword`` files, and folders of them, which are watched.
        keys: the file of hashed keys; needed where ``host`` is not a loopback address.
        limits: of the engine.
        foreword_bytes: what loaded forewords may take in memory.
        body_bytes: the longest body of a request.
        request_seconds: a request that takes longer is ended.
        requests_a_minute: of one key; 0: any number.
        max_tokens: tokens of an answer where neither the request nor the file says it.
        watch_seconds: how often the folders are looked at.
        splits: ``NAME=A,B`` or ``NAME=A,B,SHARE``: two forewords behind a name.
        feedback: the file that keeps their scores.
        shadows: ``A=B``: what A is asked, B is asked too, and its answer is only compared.
        calibrate: ``NAME=FILE``: labelled rows on which a foreword's probabilities are calibrated at the start.
        request_log, log_days: where requests and answers are written down, and for how long they stay.
        engine, url, engine_dir: what writes instead of this process (``llamacpp``, ``vllm``), where it listens, and the
            folder in which it looks for forewords.

    Raises:
        SettingsError: an address that others can reach, without keys.
    """

    files: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = PORT
    keys: Path | None = None
    limits: EngineLimits = field(default_factory=EngineLimits)
    foreword_bytes: int = 1 << 30
    body_bytes: int = 4 << 20
    upload_bytes: int = 1 << 30
    request_seconds: float = 300.0
    requests_a_minute: int = 0
    max_tokens: int = 256
    watch_seconds: float = 2.0
    splits: tuple[str, ...] = ()
    feedback: Path | None = None
    shadows: tuple[str, ...] = ()
    calibrate: tuple[str, ...] = ()
    request_log: Path | None = None
    log_days: int = 30
    engine: str | None = None
    url: str | None = None
    engine_dir: Path | None = None

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and self.keys is None:
            raise SettingsError(
                "a server that other machines can reach needs keys",
                where="--host",
                received=self.host,
                hint="make one with `foreword serve --new-key NAME --keys FILE`, then start with --keys FILE",
            )
