"""Keys of a server: random, shown once, stored as their hashes, compared in constant time.

A key has 256 random bits, so that a plain SHA-256 of it cannot be searched; slow hashes are for passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foreword.artifact.safe_files import open_regular
from foreword.errors import SettingsError

_PREFIX = "fw-"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_FILE = 1 << 20


@dataclass(frozen=True)
class Key:
    """Who a key belongs to, and whether it may add and remove forewords."""

    name: str
    digest: str
    admin: bool = False


ANYONE = Key("anyone", "", admin=True)
"""Who asks a server without keys, on this machine."""


def hashed(secret: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_key(path: Path, name: str, admin: bool = False) -> str:
    """Add a key to the file, which only its owner can read; gives the key, which is stored nowhere.

    Raises:
        SettingsError: a name that cannot be, or that has a key already.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError("a key's name cannot be this", expected="letters, digits, . - and _", received=name[:80])
    if path.exists() and any(key.name == name for key in read_keys(path)):
        raise SettingsError("there is a key of this name", where=str(path), received=name, hint="choose another name")
    secret = _PREFIX + secrets.token_urlsafe(32)
    line = json.dumps({"name": name, "sha256": hashed(secret), "admin": admin}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(line)
    return secret


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, one JSON object a line.

    Raises:
        SettingsError: a line that is none; says which.
    """
    with open_regular(path) as (file, size):
        text = file.read(min(size, _MAX_FILE)).decode("utf-8", "replace")
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            key = Key(str(entry["name"]), str(entry["sha256"]).lower(), entry.get("admin", False) is True)
        except (ValueError, KeyError, TypeError, AttributeError):
            key = Key("", "")
        if not re.fullmatch(r"[0-9a-f]{64}", key.digest):
            expected = '{"name": "...", "sha256": "64 hexadecimal digits", "admin": false}'
            raise SettingsError("a line of the key file is no key", where=f"{path}:{number}", expected=expected)
        keys.append(key)
    if not keys:
        raise SettingsError("the key file has no keys", where=str(path), hint="make one with --new-key NAME")
    return keys


class KeyRing:
    """The keys that a server knows.

    Args:
        keys: None: no key is asked for.
        a_minute: requests of one key; 0: any number.
        clock: seconds.
    """

    def __init__(self, keys: list[Key] | None, a_minute: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._rate, self._clock = keys, a_minute, clock
        self._left: dict[str, tuple[float, float]] = {}

    @property
    def open(self) -> bool:
        """Whether anyone may ask."""
        return self._keys is None

    def find(self, authorization: str | None) -> Key | None:
        """Whose key the header holds; None: nobody's. Every key is compared, whichever fits."""
        if self._keys is None:
            return ANYONE
        scheme, _, secret = (authorization or "").partition(" ")
        digest = hashed(secret.strip() if scheme.lower() == "bearer" else "")
        fitting = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return fitting[0] if fitting else None

    def wait(self, key: Key) -> float:
        """Count a request of ``key``; seconds until it may ask again, 0 where it may now."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, since = self._left.get(key.name, (float(self._rate), now))
        left = min(float(self._rate), left + (now - since) * self._rate / 60)
        if left < 1:
            self._left[key.name] = (left, now)
            return (1 - left) * 60 / self._rate
        self._left[key.name] = (left - 1, now)
        return 0.0
